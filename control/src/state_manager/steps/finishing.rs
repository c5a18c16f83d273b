//! Flows that finish at the source of a move, as they are in use there when they are to be deleted.
//!
//! Who was asked once whether it has deleted a piece is not asked again: what it has of it later has not
//! moved. Of a flow that stays there the destination is to have what it had before.

use super::*;

/// Of these the destination is to replace what it has.
#[derive(Debug, Default)]
pub(super) struct Finishing {
    flows: Vec<FlowId>,
    /// It has deleted what was put of them.
    is_cleared: bool,
}

impl Steps {
    /// The source has answered for pieces of a scope: it has deleted them, but for so many flows that are
    /// in use there, which it is to name.
    pub fn deleted(&mut self, scope: Scope, ids: &[FlowId], in_use: (u64, &[FlowId])) {
        let places = |ids: &[FlowId]| ids.iter().map(FlowId::one_way).collect::<BTreeSet<_>>();
        let (asked, named) = (places(ids), places(in_use.1));
        self.put.retain(|piece| piece.scope != scope || !asked.contains(&piece.id.one_way()));
        if scope == Scope::PerFlow {
            // Nothing holds the source to what it was asked for.
            let stays = ids.iter().filter(|id| named.contains(&id.one_way()));
            self.finishing.flows.extend(stays.cloned());
            let told = asked.intersection(&named).count();
            let counted = usize::try_from(in_use.0).unwrap_or(usize::MAX).min(asked.len());
            self.both_have(counted.saturating_sub(told));
        }
    }

    /// Flows of which the destination has to replace what it has.
    pub fn finishing(&self) -> &[FlowId] {
        &self.finishing.flows
    }

    /// Whether the destination has deleted what was put of them: what it has by now is its own.
    pub fn is_cleared(&self) -> bool {
        self.finishing.is_cleared
    }

    /// It has deleted that, but for so many, which are in use there too.
    pub fn cleared(&mut self, in_use: u64) {
        self.finishing.is_cleared = true;
        let flows = usize::try_from(in_use).unwrap_or(usize::MAX).min(self.finishing.flows.len());
        self.both_have(flows);
    }

    /// What the destination had of them before.
    pub fn to_replace(&self) -> Vec<Vec<u8>> {
        let places = self.finishing.flows.iter().map(|id| (Scope::PerFlow, id.one_way()));
        places.filter_map(|place| self.before.get(&place)).flatten().cloned().collect()
    }

    /// It has replaced it.
    pub fn replaced(&mut self) {
        self.finishing = Finishing::default();
    }

    /// The source has passed over so many flows as it was looked at, as they are in use: what has moved
    /// of them is not deleted.
    pub fn passed_over(&mut self, scope: Scope, flows: u64) {
        let Some(moved) = self.moved.as_ref().filter(|_| scope == Scope::PerFlow) else { return };
        let seen = self.put.iter().map(|piece| (piece.scope, piece.id.one_way()));
        let seen: BTreeSet<_> = seen.collect();
        let unseen = moved.keys().filter(|place| place.0 == scope && !seen.contains(place)).count();
        self.both_have(usize::try_from(flows).unwrap_or(usize::MAX).min(unseen));
    }

    /// An earlier sidecar has not come to have these replaced: what the destination has of them by now may
    /// be its own.
    pub fn were_finishing(&mut self, flows: impl ExactSizeIterator<Item = FlowId>) {
        self.both_have(flows.len());
        flows.for_each(|id| self.left_behind.add(id));
    }

    /// Both ends have so many flows, as far as anybody knows.
    fn both_have(&mut self, flows: usize) {
        if flows > 0 {
            let reason = format!(
                "{flows} flows were in use at the source as it was to delete them, and the destination \
                 may have what was put of them too"
            );
            self.falls_short(Failure::new(FailureKind::Refused, reason));
        }
    }

    /// Of what has moved so much may be at the source too, as a deletion of a scope has failed.
    pub(super) fn not_deleted(&self, scope: Scope) -> String {
        let undeleted = "all state is at the destination, and some may still be at the source, which did \
                         not delete it";
        let flows = self.finishing.flows.len();
        let finishing = format!(
            "{flows} flows were in use at the source as it was to delete them, and the destination may \
             have what was put of them, or not have all that it had of them"
        );
        match (self.of(scope).next(), flows) {
            (_, 0) => undeleted.to_owned(),
            (None, _) => finishing,
            (Some(_), _) => format!("{undeleted}; {finishing}"),
        }
    }
}
