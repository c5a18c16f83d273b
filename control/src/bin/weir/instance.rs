//! `weir instance`.

use std::collections::BTreeMap;

use clap::Subcommand;
use weir_api::v1::{
    GetInstanceRequest, InstanceView, ListInstancesRequest,
    instance_service_client::InstanceServiceClient,
};

use super::{
    client::{Client, service},
    failure::Failure,
    output::{Format, columns, pairs, percent, show, span},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// All instances
    List,
    /// One instance
    Show {
        /// Its name or number
        name: String,
    },
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let mut service = service!(InstanceServiceClient, client);
    match verb {
        Verb::List => {
            let listed = service.list_instances(client.request(ListInstancesRequest {}));
            show(client.format, &client.call(listed).await?, |listed| table(&listed.instances))
        }
        Verb::Show { name } => {
            let found = service.get_instance(client.request(GetInstanceRequest { name }));
            show(client.format, &client.call(found).await?, |found| {
                found.instance.as_ref().map(details).unwrap_or_default()
            })
        }
    }
}

/// The names of the instances there are, by number.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<u32, String>);

impl Names {
    /// Asks for them when they are to be shown: JSON has the numbers. A list that does not come is
    /// no failure of the command.
    pub(crate) async fn read(client: &Client) -> Self {
        if client.format == Format::Json {
            return Self::default();
        }
        let mut service = service!(InstanceServiceClient, client);
        let listed = service.list_instances(client.request(ListInstancesRequest {}));
        let listed = client.call(listed).await.unwrap_or_default();
        let instances = listed.instances.into_iter().filter_map(|view| view.instance);
        Self(instances.map(|instance| (instance.id, instance.name)).collect())
    }

    /// The name, or the number of an instance that has gone.
    pub(crate) fn show(&self, id: u32) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

fn load(view: &InstanceView) -> String {
    view.load.map_or("-".to_owned(), percent)
}

pub(crate) fn table(instances: &[InstanceView]) -> String {
    let header = ["INSTANCE", "ID", "STATE", "WORKER", "LOAD", "BUCKETS", "FLOWS", "PACKETS"];
    let row = |view: &InstanceView| {
        let instance = view.instance.clone().unwrap_or_default();
        vec![
            instance.name.clone(),
            instance.id.to_string(),
            state(instance.state().as_str_name()),
            instance.worker.to_string(),
            load(view),
            instance.buckets.to_string(),
            instance.flows.to_string(),
            instance.packets.to_string(),
        ]
    };
    columns(&header, instances.iter().map(row).collect())
}

fn details(view: &InstanceView) -> String {
    let instance = view.instance.clone().unwrap_or_default();
    pairs(&[
        ("instance", format!("{} ({})", instance.name, instance.id)),
        ("state", state(instance.state().as_str_name())),
        ("worker", instance.worker.to_string()),
        ("load", load(view)),
        ("capacity", format!("{} of CPU time a second", span(instance.capacity_ns))),
        ("buckets", instance.buckets.to_string()),
        ("flows", instance.flows.to_string()),
        ("packets", instance.packets.to_string()),
        ("bytes", instance.bytes.to_string()),
        ("flow table", format!("{} hits, {} misses", instance.flow_hits, instance.flow_misses)),
    ])
}

fn state(name: &str) -> String {
    name.trim_start_matches("INSTANCE_STATE_").to_lowercase()
}
