//! The coordinator of shares: starts and ends them, changes their members, refuses what would
//! contradict another operation.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::request::{Mode, Refused, Request, Surroundings, Unknown};
use super::view::View;
use crate::id::{InstanceId, ShareId};
use crate::mark;
use crate::time::Nanos;

/// Every share of a node, and what is to be done next.
///
/// Inputs are requests, events of the instances and the time; outputs are [`Command`]s, which the
/// node must carry out in their order.
#[derive(Clone, Debug, Hash)]
pub struct Coordinator {
    shares: BTreeMap<ShareId, Share>,
    next_id: ShareId,
    commands: VecDeque<Command>,
    shares_max: usize,
    step: Duration,
}

/// One share.
#[derive(Clone, Debug, Hash)]
pub struct Share {
    /// What it was asked to do; its members are those of the view.
    pub request: Request,
    /// How far it is.
    pub phase: Phase,
    /// The view that its instances have been told.
    pub view: View,
    /// The view that is prepared.
    next: Option<View>,
    /// Participants that have answered in this phase.
    answered: Vec<InstanceId>,
    /// Those for whom steerers have last been told to stamp; none of a share that is not strict.
    stamped: Vec<InstanceId>,
    /// When it must have left its phase; none when it can only finish.
    deadline: Option<Nanos>,
    /// Instances that have failed while they shared.
    pub failed: Vec<InstanceId>,
    /// It is to end as soon as it can.
    ends: bool,
}

/// How far a share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Those that join prepare. It can still be undone.
    Preparing,
    /// Its instances go from one view to the next.
    Changing,
    /// Steerers learn whose packets they stamp. Only of a strict share.
    Stamping,
    /// It shares.
    Steady,
    /// Steerers stop to stamp. Only of a strict share.
    Unstamping,
    /// Every instance gets its replica.
    Ending,
}

/// What the node must do for a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Make the ends of a share at these instances, and answer with [`Event::Prepared`] or
    /// [`Event::Unprepared`] for each.
    Prepare(ShareId, Vec<InstanceId>),
    /// Remove the ends of a share at these instances: they share nothing. Each takes first what is
    /// in the rings to it, as some of it may have to be sent on.
    Forget(ShareId, Vec<InstanceId>),
    /// Tell a view to its participants, which answer with [`Event::Settled`].
    Adopt(ShareId, View),
    /// Tell all steerers that packets to these instances get stamps, and no others; answer with
    /// [`Event::Stamped`] and this number when they do so and all that they have stamped before is
    /// with its instance, as a marker behind it says.
    Stamp(ShareId, u64, Vec<InstanceId>),
    /// The share is what was asked for: it has started, or changed its members.
    Steady(ShareId),
    /// The share has ended.
    End(ShareId, &'static str),
}

/// What happened to a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An instance has its end of the share.
    Prepared(InstanceId),
    /// An instance can not have one.
    Unprepared(&'static str),
    /// An instance has done all that the change to the view of this number takes.
    Settled(InstanceId, u64),
    /// All steerers stamp as they were last told, with this number, and what they stamped before
    /// has come.
    Stamped(u64),
}

impl Coordinator {
    /// A coordinator of at most `shares_max` shares; a phase that can still be undone takes at
    /// most `step`.
    pub fn new(shares_max: usize, step: Duration) -> Self {
        let (shares, commands) = (BTreeMap::new(), VecDeque::new());
        Self { shares, next_id: ShareId(1), commands, shares_max, step }
    }

    /// Starts a share.
    ///
    /// # Errors
    /// [`Refused`] says why nothing was begun, and which operation is in the way.
    pub fn start(
        &mut self,
        request: Request,
        around: &Surroundings<'_>,
        now: Nanos,
    ) -> Result<ShareId, Refused> {
        request.check()?;
        if self.shares.len() >= self.shares_max {
            return Err(Refused::TooMany(self.shares_max));
        }
        if let Some((id, _)) = self
            .shares
            .iter()
            .find(|(_, share)| share.request.overlaps(&request) && share.concerns(&request.members))
        {
            return Err(Refused::Share(*id));
        }
        around.allow(&request, &request.members)?;
        let id = self.next_id;
        self.next_id = ShareId(id.0 + 1);
        let next = request.view(1, &request.members, &[]);
        let joining = next.members.clone();
        let share = Share {
            request,
            phase: Phase::Preparing,
            view: View::alone(),
            next: Some(next),
            answered: Vec::new(),
            stamped: Vec::new(),
            deadline: Some(now + self.step),
            failed: Vec::new(),
            ends: false,
        };
        self.shares.insert(id, share);
        self.commands.push_back(Command::Prepare(id, joining));
        Ok(id)
    }

    /// Changes the members of a share.
    ///
    /// # Errors
    /// [`Refused`] says why nothing was changed: one change at a time.
    pub fn change(
        &mut self,
        id: ShareId,
        members: &[InstanceId],
        around: &Surroundings<'_>,
        now: Nanos,
    ) -> Result<(), Refused> {
        let step = self.step;
        let share = self.shares.get(&id).ok_or(Unknown(id))?;
        if share.phase != Phase::Steady {
            return Err(Refused::Changing(id));
        }
        let request = Request { members: members.to_vec(), ..share.request.clone() };
        request.check()?;
        let joins = |member: &InstanceId| !share.view.has_member(*member);
        let joining: Vec<_> = members.iter().copied().filter(joins).collect();
        around.allow(&request, &joining)?;
        let overlaps = |(other, of): (&ShareId, &Share)| {
            let meets = of.concerns(&joining) && of.request.overlaps(&request);
            (*other != id && meets).then_some(*other)
        };
        if let Some(other) = self.shares.iter().find_map(overlaps) {
            return Err(Refused::Share(other));
        }
        let Some(share) = self.shares.get_mut(&id) else { return Err(Unknown(id).into()) };
        share.prepare(members, now + step);
        let prepares = !joining.is_empty();
        if prepares {
            self.commands.push_back(Command::Prepare(id, joining));
        } else {
            self.adopt(id);
        }
        Ok(())
    }

    /// Ends a share: every member keeps a replica. One that is starting or changing ends when that
    /// is done.
    ///
    /// # Errors
    /// When there is no such share.
    pub fn end(&mut self, id: ShareId) -> Result<(), Unknown> {
        let share = self.shares.get_mut(&id).ok_or(Unknown(id))?;
        share.ends = true;
        if share.phase == Phase::Steady {
            self.end_now(id);
        }
        Ok(())
    }

    /// An instance has lost its end of a share, with all that it had of the state of its slots. The
    /// others go on with what they have.
    pub fn fail(&mut self, id: ShareId, instance: InstanceId) {
        if !self.shares.get(&id).is_some_and(|share| share.concerns(&[instance])) {
            return;
        }
        self.undo(id, "an instance has failed");
        let Some(share) = self.shares.get_mut(&id) else { return };
        if !share.view.has_participant(instance) {
            return;
        }
        share.failed.push(instance);
        let live = |of: &[InstanceId]| -> Vec<_> {
            of.iter().copied().filter(|other| *other != instance).collect()
        };
        let (members, leaving) = (live(&share.view.members), live(&share.view.leaving));
        let stamped = if members.is_empty() { Vec::new() } else { live(&share.stamped) };
        let stamps_fewer = stamped != share.stamped;
        let is_over = members.is_empty() && leaving.is_empty();
        let ending = members.is_empty() || share.phase == Phase::Ending;
        share.next = Some(share.request.view(share.view.number + 1, &members, &leaving));
        if stamps_fewer {
            // At once: what is stamped for it from here on is stamped in vain, and beside what it
            // shares next. That all steerers do so is waited for with the next view.
            self.stamp(id, stamped);
        }
        if is_over {
            self.over(id, "all its instances have failed");
            return;
        }
        self.adopt(id);
        if let (true, Some(share)) = (ending, self.shares.get_mut(&id)) {
            share.phase = Phase::Ending;
        }
    }

    /// Takes note of what happened to a share.
    pub fn event(&mut self, id: ShareId, event: Event) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        match (share.phase, event) {
            (Phase::Preparing, Event::Prepared(instance)) => {
                if share.has_all(instance) {
                    self.adopt(id);
                }
            }
            (Phase::Preparing, Event::Unprepared(reason)) => self.undo(id, reason),
            (Phase::Changing, Event::Settled(instance, number)) => {
                if number == share.view.number && share.has_all(instance) {
                    self.changed(id);
                }
            }
            (Phase::Ending, Event::Settled(instance, number)) => {
                if number == share.view.number && share.has_all(instance) {
                    let members = share.view.leaving.clone();
                    self.commands.push_back(Command::Forget(id, members));
                    self.over(id, "asked to");
                }
            }
            (Phase::Stamping, Event::Stamped(number)) if number == share.view.number => {
                self.steady(id);
            }
            (Phase::Unstamping, Event::Stamped(number)) if number == share.view.number => {
                self.end_view(id);
            }
            // Of a view or a phase that a failure has put an end to.
            (_, Event::Prepared(_) | Event::Unprepared(_)) => {}
            (_, Event::Settled(..) | Event::Stamped(_)) => {}
        }
    }

    /// Undoes what has taken too long to prepare.
    pub fn handle_timeout(&mut self, now: Nanos) {
        let late = |share: &Share| share.deadline.is_some_and(|deadline| deadline <= now);
        let late = self.shares.iter().filter(|(_, share)| late(share)).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            self.undo(id, "an instance took too long to prepare");
        }
    }

    /// When [`Coordinator::handle_timeout`] must be called, if ever.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.shares.values().filter_map(|share| share.deadline).min()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The shares that have not ended, oldest first.
    pub fn shares(&self) -> impl Iterator<Item = (ShareId, &Share)> {
        self.shares.iter().map(|(id, share)| (*id, share))
    }

    /// A share that has not ended.
    pub fn get(&self, id: ShareId) -> Option<&Share> {
        self.shares.get(&id)
    }

    /// The share that is in the way of a move: it has flows of the move at an end of it.
    pub fn in_the_way_of(&self, wanted: &mark::Request) -> Option<ShareId> {
        let ends = [wanted.from, wanted.to];
        let shares = self.shares.iter();
        let mut of_them = shares.filter(|(_, share)| {
            share.request.has_flows_of(&wanted.selection) && share.concerns(&ends)
        });
        of_them.next().map(|(id, _)| *id)
    }

    /// The share that an instance must leave before it can be removed.
    pub fn share_of(&self, instance: InstanceId) -> Option<ShareId> {
        self.shares.iter().find(|(_, share)| share.concerns(&[instance])).map(|(id, _)| *id)
    }

    fn adopt(&mut self, id: ShareId) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        let Some(next) = share.next.take() else { return };
        share.view = next;
        share.enter(Phase::Changing);
        self.commands.push_back(Command::Adopt(id, share.view.clone()));
    }

    /// All have changed to the view.
    fn changed(&mut self, id: ShareId) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        match share.request.mode {
            Mode::Strong => self.steady(id),
            Mode::Strict => {
                share.enter(Phase::Stamping);
                // Once steerers have stopped to stamp they must not begin anew: they would do so at
                // places that homes have seen.
                let members = if share.ends { Vec::new() } else { share.view.members.clone() };
                self.stamp(id, members);
            }
        }
    }

    fn stamp(&mut self, id: ShareId, members: Vec<InstanceId>) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        share.stamped.clone_from(&members);
        self.commands.push_back(Command::Stamp(id, share.view.number, members));
    }

    fn steady(&mut self, id: ShareId) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        let left = std::mem::take(&mut share.view.leaving);
        if !left.is_empty() {
            self.commands.push_back(Command::Forget(id, left));
        }
        share.request.members.clone_from(&share.view.members);
        share.enter(Phase::Steady);
        self.commands.push_back(Command::Steady(id));
        if share.ends {
            self.end_now(id);
        }
    }

    fn end_now(&mut self, id: ShareId) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        match share.request.mode {
            Mode::Strong => self.end_view(id),
            Mode::Strict => {
                share.enter(Phase::Unstamping);
                self.stamp(id, Vec::new());
            }
        }
    }

    /// Tells the view in which every instance is its own home.
    fn end_view(&mut self, id: ShareId) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        let leaving = share.view.members.clone();
        share.view = share.request.view(share.view.number + 1, &[], &leaving);
        share.enter(Phase::Ending);
        self.commands.push_back(Command::Adopt(id, share.view.clone()));
    }

    /// Undoes what is being prepared, if anything is.
    fn undo(&mut self, id: ShareId, reason: &'static str) {
        let Some(share) = self.shares.get_mut(&id) else { return };
        if share.phase != Phase::Preparing {
            return;
        }
        let joining = share.joining();
        share.next = None;
        self.commands.push_back(Command::Forget(id, joining));
        if share.view.number == 0 {
            self.over(id, reason);
            return;
        }
        share.enter(Phase::Steady);
        self.commands.push_back(Command::Steady(id));
        if share.ends {
            self.end_now(id);
        }
    }

    fn over(&mut self, id: ShareId, reason: &'static str) {
        self.shares.remove(&id);
        self.commands.push_back(Command::End(id, reason));
    }
}

impl Share {
    /// Prepares the view of these members.
    fn prepare(&mut self, members: &[InstanceId], deadline: Nanos) {
        let gone = |member: &InstanceId| !members.contains(member);
        let leaving: Vec<_> = self.view.members.iter().copied().filter(gone).collect();
        self.next = Some(self.request.view(self.view.number + 1, members, &leaving));
        self.enter(Phase::Preparing);
        self.deadline = Some(deadline);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.answered.clear();
        self.deadline = None;
    }

    /// Those that have no end of the share yet.
    fn joining(&self) -> Vec<InstanceId> {
        let next = self.next.iter().flat_map(|view| view.members.iter().copied());
        next.filter(|member| !self.view.has_member(*member)).collect()
    }

    /// Takes note of an answer; whether it was the last that is waited for.
    fn has_all(&mut self, instance: InstanceId) -> bool {
        if !self.answered.contains(&instance) {
            self.answered.push(instance);
        }
        let waited_for: Vec<_> = match self.phase {
            Phase::Preparing => self.joining(),
            _ => self.view.participants().collect(),
        };
        waited_for.iter().all(|other| self.answered.contains(other))
    }

    fn concerns(&self, instances: &[InstanceId]) -> bool {
        let views = [Some(&self.view), self.next.as_ref()];
        let mut views = views.into_iter().flatten();
        views.any(|view| instances.iter().any(|instance| view.has_participant(*instance)))
    }
}

#[cfg(test)]
mod tests;
