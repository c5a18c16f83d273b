//! `weir scale`.

use clap::{Args, Subcommand, ValueEnum};
use weir_api::v1::{
    Auto, Decision, GetAutoRequest, ListDecisionsRequest, ListOperationsRequest, Operation,
    OperationState, PlanScaleRequest, PlanScaleResponse, ScaleRequest, ScaleResponse,
    SetAutoRequest, Step, UndoScaleRequest, WatchScaleRequest, WatchScaleResponse,
    scale_service_client::ScaleServiceClient,
};

use super::{
    client::{Client, service},
    escape,
    failure::Failure,
    output::{columns, pairs, percent, show, show_next, span},
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Scale {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The number of instances to have
    #[arg(long, value_name = "N", required = true)]
    to: Option<u32>,
    /// Wait until they are there, with progress on standard error
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let the policy scale, or stop it; shows the policy
    Auto {
        /// Which; only shows when absent
        switch: Option<Switch>,
    },
    /// What would be done, and why
    Plan {
        /// To this number of instances; what the policy says when absent
        #[arg(long, value_name = "N", default_value_t = 0)]
        to: u32,
    },
    /// The last decisions of the policy, with their figures
    Log {
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// The last operations
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Follow an operation until it ends
    Watch {
        /// Its number
        id: u64,
    },
    /// Turn a running operation back
    Undo {
        /// Its number
        id: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// The policy scales
    On,
    /// Only commands scale
    Off,
}

pub(crate) async fn run(client: &Client, scale: Scale) -> Result<(), Failure> {
    let mut service = service!(ScaleServiceClient, client);
    match scale.verb {
        None => start(client, scale.to.unwrap_or_default(), scale.wait).await,
        Some(Verb::Auto { switch: None }) => {
            let auto = client.call(service.get_auto(client.request(GetAutoRequest {}))).await?;
            show(client.format, &auto, |auto| auto_table(auto.auto.as_ref()))
        }
        Some(Verb::Auto { switch: Some(switch) }) => {
            let ask = SetAutoRequest { change: client.change()?, enabled: switch == Switch::On };
            let auto = client.call(service.set_auto(client.request(ask))).await?;
            show(client.format, &auto, |auto| auto_table(auto.auto.as_ref()))
        }
        Some(Verb::Plan { to }) => {
            let ask = PlanScaleRequest { instances: to };
            let plan = client.call(service.plan_scale(client.request(ask))).await?;
            show(client.format, &plan, plan_table)
        }
        Some(Verb::Log { limit }) => {
            let ask = ListDecisionsRequest { limit };
            let listed = client.call(service.list_decisions(client.request(ask))).await?;
            show(client.format, &listed, |listed| decisions(&listed.decisions))
        }
        Some(Verb::List { limit }) => {
            let ask = ListOperationsRequest { limit };
            let listed = client.call(service.list_operations(client.request(ask))).await?;
            show(client.format, &listed, |listed| {
                listed.operations.iter().map(|o| operation_line(o) + "\n").collect()
            })
        }
        Some(Verb::Watch { id }) => watch(client, id).await,
        Some(Verb::Undo { id }) => {
            let ask = UndoScaleRequest { change: client.change()?, id };
            let undone = client.call(service.undo_scale(client.request(ask))).await?;
            show(client.format, &undone, |undone| {
                undone.operation.as_ref().map(|o| operation_line(o) + "\n").unwrap_or_default()
            })
        }
    }
}

async fn start(client: &Client, instances: u32, wait: bool) -> Result<(), Failure> {
    let mut service = service!(ScaleServiceClient, client);
    let ask = ScaleRequest { change: client.change()?, instances };
    let mut stream = client.call(service.scale(client.request(ask))).await?;
    let mut progress = Progress::default();
    let mut last: Option<ScaleResponse> = None;
    while let Some(seen) = client.next(&mut stream).await? {
        progress.tell(seen.operation.as_ref());
        last = Some(seen);
        if !wait {
            break;
        }
    }
    let Some(last) = last else { return Err(Failure::NotReached) };
    show(client.format, &last, |last| operation_table(last.operation.as_ref()))?;
    if wait { reached(last.operation.as_ref()) } else { Ok(()) }
}

async fn watch(client: &Client, id: u64) -> Result<(), Failure> {
    let mut service = service!(ScaleServiceClient, client);
    let ask = WatchScaleRequest { id };
    let mut stream = client.call(service.watch_scale(client.request(ask))).await?;
    let mut progress = Progress::default();
    let mut last: Option<WatchScaleResponse> = None;
    while let Some(seen) = client.next(&mut stream).await? {
        progress.tell(seen.operation.as_ref());
        last = Some(seen);
    }
    let Some(last) = last else { return Err(Failure::NotReached) };
    show_next(client.format, &last, |last| operation_table(last.operation.as_ref()))?;
    reached(last.operation.as_ref())
}

fn reached(operation: Option<&Operation>) -> Result<(), Failure> {
    match operation.map(Operation::state) {
        Some(OperationState::Done) => Ok(()),
        _ => Err(Failure::NotReached),
    }
}

/// Tells each change of a step once.
#[derive(Default)]
struct Progress {
    told: Vec<i32>,
}

impl Progress {
    fn tell(&mut self, operation: Option<&Operation>) {
        let steps = operation.map(|operation| operation.steps.as_slice()).unwrap_or_default();
        self.told.resize(steps.len(), 1);
        for (step, told) in steps.iter().zip(&mut self.told) {
            if step.state != *told {
                *told = step.state;
                let at = step.ended_ns.max(step.started_ns);
                let state = word(step.state().as_str_name());
                escape::tell(&format!("{:>10}  {:<12} {state}", span(at), step.name));
            }
        }
    }
}

/// An operation on one line.
pub(crate) fn operation_line(operation: &Operation) -> String {
    let mut line = format!(
        "{} {} {} -> {} {} by {}, {} flows in {}",
        operation.id,
        word(operation.kind().as_str_name()),
        operation.from_instances,
        operation.to_instances,
        word(operation.state().as_str_name()),
        operation.origin,
        operation.flows_moved,
        span(operation.elapsed_ns),
    );
    if operation.resumed > 0 {
        line.push_str(&format!(", resumed {} times", operation.resumed));
    }
    if !operation.reason.is_empty() {
        line.push_str(&format!(": {}", operation.reason));
    }
    line
}

fn operation_table(operation: Option<&Operation>) -> String {
    let Some(operation) = operation else { return String::new() };
    format!("{}\n\n{}", operation_line(operation), steps(&operation.steps))
}

fn steps(steps: &[Step]) -> String {
    let header = ["STEP", "INSTANCE", "TO", "BUCKETS", "STATE", "FLOWS", "BEGAN", "ENDED"];
    let row = |step: &Step| {
        vec![
            step.name.clone(),
            step.instance.clone(),
            step.destination.clone(),
            if step.bucket_count == 0 { String::new() } else { step.bucket_count.to_string() },
            word(step.state().as_str_name()),
            step.flows.to_string(),
            span(step.started_ns),
            span(step.ended_ns),
        ]
    };
    columns(&header, steps.iter().map(row).collect())
}

fn plan_table(plan: &PlanScaleResponse) -> String {
    let mut text = plan.decision.as_ref().map(decision_text).unwrap_or_default();
    text.push_str(&format!("\n{} -> {} instances\n", plan.from_instances, plan.to_instances));
    if plan.steps.is_empty() {
        text.push_str("nothing to do\n");
    } else {
        text.push_str(&steps(&plan.steps));
    }
    if let Some(obstacle) = &plan.obstacle {
        let rows = [("in the way", obstacle.message.clone()), ("fix", obstacle.fix.clone())];
        text.push_str(&format!("\n{}", pairs(&rows)));
    }
    text
}

fn decision_text(decision: &Decision) -> String {
    pairs(&[
        (
            "policy",
            format!(
                "{} {} -> {}",
                word(decision.verdict().as_str_name()),
                decision.from_instances,
                decision.to_instances
            ),
        ),
        ("reason", decision.reason.clone()),
        (
            "load",
            format!(
                "mean {}, highest {}, in all {}",
                percent(decision.load_mean),
                percent(decision.load_max),
                percent(decision.load_total)
            ),
        ),
        ("beyond for", span(decision.beyond_ns)),
        ("cool-down", format!("{} left", span(decision.cool_down_left_ns))),
    ])
}

fn decisions(decisions: &[Decision]) -> String {
    let header = ["AT (UNIX S)", "FROM", "TO", "MEAN", "HIGHEST", "BEYOND", "OPERATION", "REASON"];
    let row = |decision: &Decision| {
        vec![
            format!("{:.3}", decision.at_unix_ns as f64 / 1e9),
            decision.from_instances.to_string(),
            decision.to_instances.to_string(),
            percent(decision.load_mean),
            percent(decision.load_max),
            span(decision.beyond_ns),
            decision.operation.to_string(),
            decision.reason.clone(),
        ]
    };
    columns(&header, decisions.iter().map(row).collect())
}

fn auto_table(auto: Option<&Auto>) -> String {
    let auto = auto.copied().unwrap_or_default();
    let policy = auto.policy.unwrap_or_default();
    pairs(&[
        ("scaling by policy", if auto.enabled { "on" } else { "off" }.to_owned()),
        ("instances", format!("{} to {}", policy.min, policy.max)),
        ("grow above", percent(policy.high)),
        ("shrink below", percent(policy.low)),
        ("aim at", percent(policy.target)),
        ("dwell", span(policy.dwell_ns)),
        ("cool-down", span(policy.cool_down_ns)),
        ("read every", format!("{} over {}", span(policy.interval_ns), span(policy.window_ns))),
    ])
}

/// The word of an enum value, without its prefix.
fn word(name: &str) -> String {
    const PREFIXES: [&str; 4] = ["OPERATION_KIND_", "OPERATION_STATE_", "STEP_STATE_", "VERDICT_"];
    let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    bare.to_lowercase().replace('_', "-")
}
