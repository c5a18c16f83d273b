//! `weir worker`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::Worker,
    v1::{
        AddWorkerRequest, ListWorkersRequest, RemoveWorkerRequest,
        worker_service_client::WorkerServiceClient,
    },
};

use super::{
    client::{Client, service},
    failure::Failure,
    output::{columns, show, span},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// All workers
    List,
    /// Start one more
    Add {
        /// The core to pin it to; not pinned when absent
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        core: i32,
    },
    /// Take one out of service
    Remove {
        /// Its number
        id: u32,
    },
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let mut service = service!(WorkerServiceClient, client);
    match verb {
        Verb::List => {
            let listed = service.list_workers(client.request(ListWorkersRequest {}));
            show(client.format, &client.call(listed).await?, |listed| table(&listed.workers))
        }
        Verb::Add { core } => {
            let ask = AddWorkerRequest { change: client.change()?, core };
            let added = client.call(service.add_worker(client.request(ask))).await?;
            show(client.format, &added, |added| table(added.worker.as_slice()))
        }
        Verb::Remove { id } => {
            let ask = RemoveWorkerRequest { change: client.change()?, id };
            let removed = client.call(service.remove_worker(client.request(ask))).await?;
            show(client.format, &removed, |_| String::new())
        }
    }
}

pub(crate) fn table(workers: &[Worker]) -> String {
    let header =
        ["WORKER", "CORE", "STATE", "INSTANCES", "PACKETS", "HANDED OVER", "BUSY", "RESTARTS"];
    let row = |worker: &Worker| {
        let instances: Vec<String> = worker.instances.iter().map(u32::to_string).collect();
        vec![
            worker.id.to_string(),
            if worker.core < 0 { "-".to_owned() } else { worker.core.to_string() },
            worker.state.clone(),
            instances.join(" "),
            worker.packets.to_string(),
            worker.handed_over.to_string(),
            span(worker.busy_ns),
            worker.restarts.to_string(),
        ]
    };
    columns(&header, workers.iter().map(row).collect())
}
