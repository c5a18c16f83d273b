//! The change from one view to the next: who hands over which slots, and when that may begin.

use super::home::{Home, Phase, Work};
use super::message::{Ledger, Message};
use super::order::Windows;
use super::request::MEMBERS_MAX;
use super::slot::{Slot, SlotSet};
use super::store::Store;
use super::view::View;
use crate::id::InstanceId;
use crate::southbound::Cursor;

/// Fences of views to come that are remembered, for each participant: as many as there may be
/// views, as one follows the other at once only when an instance has failed.
const EARLY_MAX: usize = MEMBERS_MAX + 1;

/// How far an instance is with the change to its view.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Handover {
    /// Who asks by the view.
    fenced: Vec<InstanceId>,
    /// Fences of later views.
    early: Vec<(InstanceId, u64, SlotSet)>,
    /// Every participant asks by the view: nothing more comes by an older one.
    complete: bool,
    /// Slots of others of which this instance has something.
    debts: SlotSet,
    /// Where the copying of the first of them goes on, once it has begun.
    cursor: Option<Cursor>,
    /// The change is over, as far as this instance is concerned.
    pub(super) settled: bool,
}

impl Handover {
    /// Whether nothing is left to hand over or to wait for, but the packets that wait here.
    pub(super) fn is_over<O, A>(&self, home: &Home<O, A>) -> bool {
        self.complete
            && self.debts.is_empty()
            && home.rows.iter().all(|row| row.phase != Phase::Closed)
    }

    /// Whether something of a slot is left to hand over.
    pub(super) fn owes(&self, slot: Slot) -> bool {
        self.debts.contains(slot)
    }

    /// Begins the change to a view: which slots this instance owes to whom.
    pub(super) fn adopt<S: Store>(
        &mut self,
        view: View,
        home: &mut Home<S::Op, S::Answer>,
        store: &S,
    ) -> Vec<(InstanceId, SlotSet)> {
        let before = std::mem::replace(&mut home.view, view);
        let view = &home.view;
        let occupied = store.occupied();
        let debts = std::mem::take(&mut self.debts);
        for (number, row) in home.rows.iter_mut().enumerate() {
            let slot = Slot(number as u16);
            row.owed_by.clear();
            // Of who has failed nothing more is executed, and soon nothing is remembered.
            row.held.retain(|id, _| view.has_participant(id.instance));
            let took_part = |asker| before.has_participant(asker) || view.has_participant(asker);
            row.done.retain(took_part);
            let was_mine = !before.is_alone() && before.home(slot, home.me) == home.me;
            let is_open = row.phase == Phase::Open;
            let (phase, owes) = if view.is_alone() && before.is_alone() {
                // The end is begun again, without one that has failed.
                (row.phase, debts.contains(slot))
            } else if view.is_alone() {
                let mine = was_mine && is_open;
                (if mine { Phase::Open } else { Phase::Closed }, mine)
            } else if view.home(slot, home.me) == home.me {
                // Where it stays, nobody has asked another.
                let stays = was_mine && is_open;
                (if stays { Phase::Open } else { Phase::Closed }, false)
            } else if row.phase == Phase::Elsewhere || (is_open && before.is_alone()) {
                let residue = occupied.contains(slot) || !row.done.is_empty();
                (Phase::Elsewhere, residue || !row.windows.is_empty() || !row.held.is_empty())
            } else {
                (row.phase, true)
            };
            row.phase = phase;
            let first = row.ends.unwrap_or(view.number);
            row.ends = (view.is_alone() && owes).then_some(first);
            if owes {
                self.debts.insert(slot);
            }
        }
        self.fenced = vec![home.me];
        (self.complete, self.cursor, self.settled) = (false, None, false);
        let others = view.participants().filter(|other| *other != home.me);
        let owed = |to: InstanceId| {
            let slots = self.debts.iter();
            slots.filter(|slot| view.is_alone() || view.home(*slot, home.me) == to).collect()
        };
        others.map(|other| (other, owed(other))).collect()
    }

    /// Another asks by a view from here on.
    pub(super) fn fence<S: Store>(
        &mut self,
        (from, view, owed): (InstanceId, u64, SlotSet),
        home: &mut Home<S::Op, S::Answer>,
        work: &mut Work<'_, S>,
    ) {
        let is_late = view <= home.view.number;
        if is_late && !home.view.has_participant(from) {
            // It has failed since: what it owes is not taken in.
            return;
        }
        if !is_late {
            let of_it = self.early.iter().filter(|(other, ..)| *other == from).count();
            if of_it < EARLY_MAX {
                self.early.push((from, view, owed));
            }
        } else if view == home.view.number && !self.fenced.contains(&from) {
            self.fenced.push(from);
            // What it owed by an older view it has handed over, or says again.
            home.rows.iter_mut().for_each(|row| row.owed_by.retain(|other| *other != from));
            owe(from, &owed, home);
            self.look(home, work);
        } else if view < home.view.number && !self.fenced.contains(&from) {
            // It may begin to hand over before it hears of this view, to who is the home by both.
            owe(from, &owed, home);
        }
    }

    /// Takes the fences that came before the view was adopted, and what came for its slots.
    pub(super) fn adopted<S: Store>(
        &mut self,
        home: &mut Home<S::Op, S::Answer>,
        work: &mut Work<'_, S>,
    ) {
        for (from, view, owed) in std::mem::take(&mut self.early) {
            self.fence((from, view, owed), home, work);
        }
        for slot in SlotSet::all(home.rows.len()).iter() {
            let row = &home.rows[slot.index()];
            if row.phase == Phase::Open && !row.held.is_empty() {
                home.open(slot, work);
            }
        }
        self.look(home, work);
    }

    /// Another has handed over a slot.
    pub(super) fn handed<S: Store>(
        &mut self,
        from: InstanceId,
        slot: Slot,
        home: &mut Home<S::Op, S::Answer>,
        work: &mut Work<'_, S>,
    ) {
        if let Some(row) = home.rows.get_mut(slot.index()) {
            row.owed_by.retain(|other| *other != from);
        }
        self.open(slot, home, work);
    }

    /// Hands over so many pieces at most; whether there are more.
    pub(super) fn step<S: Store>(
        &mut self,
        pieces: usize,
        home: &mut Home<S::Op, S::Answer>,
        work: &mut Work<'_, S>,
    ) -> bool {
        if !self.complete {
            return false;
        }
        for _ in 0..pieces {
            let Some(slot) = self.debts.first() else { return false };
            if self.cursor.is_none() {
                begin(slot, home, work);
            }
            let cursor = self.cursor.get_or_insert_default();
            let message = work.store.copy(slot, cursor).map(|piece| Message::Piece(slot, piece));
            if message.is_none() {
                self.cursor = None;
                self.debts.remove(slot);
            }
            let is_over = message.is_none();
            send(slot, &message.unwrap_or(Message::Handed(slot)), home, work);
            if is_over && home.view.is_alone() {
                home.rows[slot.index()].ends = None;
                home.open(slot, work);
            } else if is_over {
                // Kept until now: had who takes it over failed, another would get all of it.
                home.forget(slot);
                work.store.remove(slot);
            }
        }
        !self.debts.is_empty()
    }

    /// Opens what need not wait any more, once every participant asks by the view.
    fn look<S: Store>(&mut self, home: &mut Home<S::Op, S::Answer>, work: &mut Work<'_, S>) {
        let asks = |participant| self.fenced.contains(&participant);
        if self.complete || !home.view.participants().all(asks) {
            return;
        }
        self.complete = true;
        for slot in SlotSet::all(home.rows.len()).iter() {
            self.open(slot, home, work);
        }
    }

    fn open<S: Store>(
        &mut self,
        slot: Slot,
        home: &mut Home<S::Op, S::Answer>,
        work: &mut Work<'_, S>,
    ) {
        let Some(row) = home.rows.get(slot.index()) else { return };
        let is_mine = home.view.home(slot, home.me) == home.me;
        if self.complete && row.phase == Phase::Closed && is_mine && row.owed_by.is_empty() {
            home.open(slot, work);
        }
    }
}

/// Another owes something of slots: nothing is executed there until it has handed that over.
fn owe<O, A>(from: InstanceId, owed: &SlotSet, home: &mut Home<O, A>) {
    for slot in owed.iter() {
        let is_mine = home.view.home(slot, home.me) == home.me;
        let Some(row) = home.rows.get_mut(slot.index()).filter(|_| is_mine) else { continue };
        row.owed_by.push(from);
        row.phase = Phase::Closed;
    }
}

/// Begins to hand over a slot: from here on its operations are its next home's. At the end of the
/// share every instance learns what was executed, as its answer may be on its way still.
fn begin<S: Store>(slot: Slot, home: &mut Home<S::Op, S::Answer>, work: &mut Work<'_, S>) {
    let (ends, view) = (home.view.is_alone(), home.view.number);
    if ends {
        home.finish(slot, work);
    }
    let row = &mut home.rows[slot.index()];
    let done = row.done.clone();
    let ledger = if ends {
        Ledger { slot, done, windows: Windows::default(), held: Vec::new() }
    } else {
        row.phase = Phase::Elsewhere;
        let held = row.held.values().filter(|held| held.view <= view).cloned().collect();
        Ledger { slot, done, windows: row.windows.clone(), held }
    };
    send(slot, &Message::Ledger(Box::new(ledger)), home, work);
}

/// Sends a message to the next home of a slot; at the end of the share to everybody.
fn send<S: Store>(
    slot: Slot,
    message: &Message<S::Op, S::Answer, S::Piece>,
    home: &Home<S::Op, S::Answer>,
    work: &mut Work<'_, S>,
) {
    let view = &home.view;
    let next = (!view.is_alone()).then(|| view.home(slot, home.me));
    for to in view.participants().filter(|to| *to != home.me && next.is_none_or(|next| next == *to))
    {
        work.sent.push(to, message.clone());
    }
}
