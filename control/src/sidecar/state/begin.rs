//! What requests ask for, checked, and begun as operations.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use weir_api::{
    dataplane::v1::Guarantee,
    v1::{CopyRequest, MoveRequest, move_request},
};
use weir_state_transfer::{StateFilter, chunk::Scope};

use super::{
    Reader,
    copy::Copy,
    instances::{self, Follow},
    lead::Lead,
    processes::{self, Way},
};
use crate::{
    fault::Fault,
    filters,
    sidecar::Sidecar,
    southbound::scope_of,
    state_manager::{
        end::End,
        operation::{Asked, CopyAsked, MoveAsked, Operation, Selection},
        rounds::Rounds,
    },
};

/// How long an operation may take that does not say.
const LIMIT_DEFAULT: Duration = Duration::from_secs(60);
/// The longest that it may say.
const LIMIT_MAX: Duration = Duration::from_secs(3_600);
/// The shortest time between two rounds of a copy.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

impl Sidecar {
    /// Begins a move. The caller holds the right to change.
    pub(crate) async fn begin_state_move(
        self: &Arc<Self>,
        request: &MoveRequest,
        id: Option<u64>,
    ) -> Result<(Operation, Reader), Fault> {
        let limit = limit(request.limit_ns)?;
        let asked = self.move_asked(request).await?;
        let between_instances = asked.from.is_instance() && asked.to.is_instance();
        if asked.from.is_instance() || asked.to.is_instance() {
            self.refuse_during_operation("move state")?;
        }
        let filter = match (&asked.selection, between_instances) {
            (_, true) => StateFilter::default(),
            (Selection::Filter(filter), false) => filter.clone(),
            (Selection::Buckets(_), false) => return Err(buckets_of_a_process()),
        };
        let leads = !between_instances && asked.guarantee != Guarantee::None;
        if leads {
            // Flows do not change instances while packets are held.
            self.refuse_during_operation("move state")?;
        }
        let request_id = request.change.as_ref().map_or("", |change| &change.request_id);
        let begun = self.begin_operation(Asked::Move(asked.clone()), request_id, id).await?;
        let (mut operation, reins, reader) = begun;
        let sidecar = Arc::clone(self);
        if !between_instances {
            let way = match asked.to {
                // It is forgotten with its reins when it can not be led.
                _ if leads => {
                    let of = (operation.id, request_id);
                    Way::Led(Box::new(Lead::plan(self, of, &asked, &filter).await?))
                }
                End::Peer { .. } => Way::Leaving(None),
                _ => Way::Here,
            };
            let again = reins.again;
            let moved = processes::Move { sidecar, reins, asked, filter, limit, way, again };
            tokio::spawn(moved.run());
            return Ok((operation, reader));
        }
        // If it fails, the operation is forgotten with its reins.
        let begun = if let Some(why) = reins.ending {
            // Of one that is to end nothing more is begun.
            let found = instances::find(self, request_id).await;
            let Some(found) = found.map_err(|status| Fault::from_dataplane(&status))? else {
                self.end_operation(reins.id, instances::ended_unknown(why)).await;
                return Ok((operation, reader));
            };
            found
        } else {
            instances::start(self, &asked, request_id).await?
        };
        operation.progress.moved = Some(begun.clone());
        let ends = (asked.from, asked.to);
        tokio::spawn(Follow { sidecar, reins, begun, ends, limit }.run());
        Ok((operation, reader))
    }

    async fn move_asked(&self, request: &MoveRequest) -> Result<MoveAsked, Fault> {
        let selection = match &request.selection {
            Some(move_request::Selection::Filter(text)) => Selection::Filter(filters::state(text)?),
            Some(move_request::Selection::Buckets(text)) => {
                Selection::Buckets(filters::buckets(text)?)
            }
            None => {
                let fault = Fault::invalid("SELECTION_MISSING", "a move needs state to move");
                return Err(fault.object("selection").fix("name a filter or buckets"));
            }
        };
        let scopes = scopes(&request.scopes, Scope::PerFlow)?;
        if scopes.contains(&Scope::AllFlows) {
            let message = "state of all flows stays where it is: it applies everywhere";
            let fault = Fault::invalid("SCOPES", message).object("scopes");
            return Err(fault.fix("copy it: weir copy --scope all-flows"));
        }
        let guarantee = match Guarantee::try_from(request.guarantee) {
            Ok(Guarantee::Unspecified) => Guarantee::Ordered,
            Ok(guarantee) => guarantee,
            Err(_) => {
                let message = format!("{} is no guarantee", request.guarantee);
                let fault = Fault::invalid("GUARANTEE", message).object("guarantee");
                return Err(fault.fix("ask for NONE, LOSS_FREE or ORDERED"));
            }
        };
        let from = self.find_end("from", &request.from).await?;
        let to = self.find_destination("to", &request.to).await?;
        self.state.ends.are_two(&from, &to)?;
        Ok(MoveAsked { from, to, selection, scopes, guarantee })
    }

    /// Begins a copy. The caller holds the right to change.
    pub(crate) async fn begin_copy(
        self: &Arc<Self>,
        request: &CopyRequest,
        id: Option<u64>,
    ) -> Result<(Operation, Reader), Fault> {
        let limit = limit(request.limit_ns)?;
        let interval = Some(Duration::from_nanos(request.interval_ns));
        let interval = interval.filter(|interval| !interval.is_zero());
        if interval.is_some_and(|interval| interval < INTERVAL_MIN) {
            let message = format!("rounds are at least {INTERVAL_MIN:?} apart");
            let fault = Fault::invalid("INTERVAL", message).object("interval_ns");
            return Err(fault.fix(format!("let {INTERVAL_MIN:?} or more be between them")));
        }
        let most = Some(request.rounds).filter(|rounds| *rounds > 0);
        let lasts = Some(request.time_limit_ns).filter(|limit| *limit > 0);
        if interval.is_none() && (most.is_some() || lasts.is_some()) {
            let message = "a number of rounds and a time for all of them are of copies that repeat";
            let fault = Fault::invalid("INTERVAL", message).object("interval_ns");
            return Err(
                fault.fix("say how long after a round the next begins, or ask for one round")
            );
        }
        let until = lasts.map(|lasts| self.now() + Duration::from_nanos(lasts));
        let rounds = Rounds { interval, most, until, done: 0 };
        let (filter, scopes) =
            (filters::state(&request.filter)?, scopes(&request.scopes, Scope::MultiFlow)?);
        let (from, to) = self.both_ends(&request.from, &request.to).await?;
        let asked = CopyAsked { from, to, filter, scopes };
        let request_id = request.change.as_ref().map_or("", |change| &change.request_id);
        let begun = self.begin_operation(Asked::Copy(asked.clone()), request_id, id).await?;
        let (operation, reins, reader) = begun;
        tokio::spawn(Copy::new(reins, asked, rounds, limit).run());
        Ok((operation, reader))
    }

    async fn both_ends(&self, from: &str, to: &str) -> Result<(End, End), Fault> {
        let (from, to) = (self.find_end("from", from).await?, self.find_end("to", to).await?);
        self.state.ends.are_two(&from, &to)?;
        Ok((from, to))
    }
}

pub(super) fn scopes(named: &[i32], default: Scope) -> Result<BTreeSet<Scope>, Fault> {
    let found: Option<BTreeSet<Scope>> = named.iter().copied().map(scope_of).collect();
    let found = found.ok_or_else(|| {
        let message = "per-flow, multi-flow and all-flows are the scopes";
        Fault::invalid("SCOPES", message).object("scopes").fix("name some of these")
    })?;
    Ok(if found.is_empty() { [default].into() } else { found })
}

pub(super) fn limit(nanos: u64) -> Result<Duration, Fault> {
    match Duration::from_nanos(nanos) {
        Duration::ZERO => Ok(LIMIT_DEFAULT),
        limit if limit > LIMIT_MAX => {
            let message = format!("{LIMIT_MAX:?} is the longest that an operation may take");
            let fault = Fault::invalid("LIMIT", message).object("limit_ns");
            Err(fault.fix(format!("give it {LIMIT_MAX:?} or less")))
        }
        limit => Ok(limit),
    }
}

fn buckets_of_a_process() -> Fault {
    let message = "buckets are of the data plane: a process of its own knows none";
    Fault::precondition("BUCKETS_OF_A_PROCESS", message).object("buckets").fix("name a filter")
}
