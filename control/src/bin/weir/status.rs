//! `weir status`.

use weir_api::{
    dataplane::v1::Worker,
    v1::{GetStatusRequest, GetStatusResponse, status_service_client::StatusServiceClient},
};

use super::{
    client::{Client, service},
    failure::Failure,
    operation::running_line,
    output::{pairs, percent, show, span},
    scale::operation_line,
};

pub(crate) async fn run(client: &Client) -> Result<(), Failure> {
    let mut service = service!(StatusServiceClient, client);
    let status = client.call(service.get_status(client.request(GetStatusRequest {}))).await?;
    show(client.format, &status, table)
}

fn table(status: &GetStatusResponse) -> String {
    let dataplane = status.dataplane.clone().unwrap_or_default();
    let node = dataplane.node.as_ref();
    let reached = match node {
        Some(node) => format!(
            "version {}, pid {}, up {}, {} polling",
            node.version,
            node.pid,
            span(node.uptime_ns),
            node.poll
        ),
        None => format!("not reached at {}: {}", dataplane.socket, dataplane.error),
    };
    let scales = status.operation.as_ref().map(operation_line);
    let mut operations: Vec<String> =
        scales.into_iter().chain(status.state_operations.iter().map(running_line)).collect();
    if operations.is_empty() {
        operations.push("none".to_owned());
    }
    let mut rows = vec![
        ("sidecar", format!("version {}, up {}", status.version, span(status.uptime_ns))),
        ("data plane", reached),
        (
            "instances",
            format!("{} active, {} desired", status.instances_active, status.instances_desired),
        ),
        (
            "load",
            format!("mean {}, highest {}", percent(status.load_mean), percent(status.load_max)),
        ),
        ("scaling", if status.auto { "by policy" } else { "by command" }.to_owned()),
    ];
    rows.extend(operations.into_iter().map(|operation| ("operation", operation)));
    rows.push(("generation", status.generation.to_string()));
    let restarts = restarts(&status.restarted_workers);
    if !restarts.is_empty() {
        rows.push(("panics", format!("{restarts}; the data plane's log says why")));
    }
    pairs(&rows)
}

/// Which workers were started again after a panic, and how often; empty when none was.
pub(crate) fn restarts(workers: &[Worker]) -> String {
    let told = |worker: &Worker| match worker.restarts {
        1 => format!("worker {} was started again once", worker.id),
        times => format!("worker {} was started again {times} times", worker.id),
    };
    let all: Vec<String> = workers.iter().map(told).collect();
    all.join(", ")
}
