//! Whether a process keeps the rules that moves, copies and shares rely on, told from outside.
//!
//! The kit has nothing but what the function itself gives: it gets state, puts it back, spoils it,
//! deletes it and restores it. It leaves the function as it was, where the function keeps the rules.
//! While it compares state it has all packets dropped, by a subscription of its own. So most rules
//! disturb a function at work, and are judged only where [`Options::disturb`] says so.
//!
//! Rules about packets need traffic that changes the state, and are skipped without. What a function
//! refuses because a move or a share goes on is skipped too.
//!
//! What a function says that it has not is not asked for: rules of a scope of which it describes no
//! kind of state, and rules that need an action which it refuses. One that refuses to drop has to
//! be judged while no packets come, as nothing keeps them off, and its joins are not judged.

mod events;
mod get;
mod merge;
mod put;
mod refuse;
mod request;
mod subject;
mod subscription;

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tonic::Code;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::southbound::Action;

use crate::client::{CallError, Client};
use subject::Subject;

/// How long one rule may take beside its waits for packets.
const RULE_LIMIT: Duration = Duration::from_secs(60);
/// Times that a rule waits for packets, each for [`Options::patience`] at most.
const WAITS_MAX: u32 = 3;
/// Why a rule that was cut off can not be told.
const INTERRUPTED: &str = "it was interrupted";

/// How the rules are judged.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only rules whose names begin with this; empty for all.
    pub rules: String,
    /// How long to wait for packets to do something.
    pub patience: Duration,
    /// Whether to judge the rules too that drop or keep packets, or put and delete state.
    pub disturb: bool,
}

/// What has come of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The rule, such as `per-flow-del`.
    pub rule: String,
    /// Whether it is kept.
    pub outcome: Outcome,
}

/// Whether a rule is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is.
    Pass,
    /// It is not, and what shows it.
    Fail(String),
    /// It can not be told, and why.
    Skip(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Pass => write!(f, "pass {}", self.rule),
            Outcome::Fail(why) => write!(f, "FAIL {}: {why}", self.rule),
            Outcome::Skip(why) => write!(f, "skip {}: {why}", self.rule),
        }
    }
}

/// Why a rule is not passed.
#[derive(Debug)]
enum Stop {
    Fail(String),
    Skip(String),
}

/// What a rule gives.
type Verdict = Result<(), Stop>;

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        match &error {
            // A move or a share is in the way: that is no fault of the function.
            CallError::Refused { code: Code::FailedPrecondition, reason, message }
                if reason == "BUSY" =>
            {
                Self::Skip(message.clone())
            }
            _ => Self::Fail(error.to_string()),
        }
    }
}

/// A rule that is not kept.
fn fail<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fail(why.into()))
}

/// A rule that can not be told.
fn skip<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(why.into()))
}

/// Judges every rule, and tells each line as soon as it is known. All rests on what the function says
/// of itself: where that is wrong, it is the only line. Where a rule is not kept and nobody serves any
/// more behind it, it is the last.
///
/// # Errors
/// There is nothing to judge: nobody serves, or not this instance, or it is not said which.
pub async fn run(
    client: &Client,
    options: &Options,
    tell: impl FnMut(&Line),
) -> Result<Vec<Line>, CallError> {
    let (_never, interrupted) = watch::channel(false);
    run_until(client, options, interrupted, tell).await
}

/// The same, until `interrupted` is true. A rule in hand that changes state comes to its end then, and
/// has put the state back where the function keeps it; any other one is cut off. No further one is
/// begun.
///
/// # Errors
/// As those of [`run`].
pub async fn run_until(
    client: &Client,
    options: &Options,
    interrupted: watch::Receiver<bool>,
    mut tell: impl FnMut(&Line),
) -> Result<Vec<Line>, CallError> {
    let described = tokio::select! {
        described = client.describe() => described,
        () = until(interrupted.clone()) => return Ok(Vec::new()),
    };
    let description = match described {
        Ok(description) => description,
        Err(error) if is_absent(&error) || error.is_about_instance() => return Err(error),
        Err(error) => {
            let outcome = Outcome::Fail(error.to_string());
            let line = Line { rule: "describe".to_owned(), outcome };
            tell(&line);
            return Ok(vec![line]);
        }
    };
    let subject = &Subject::new(client.clone(), description, options.patience, interrupted);
    let mut judge = Judge { options, subject, lines: Vec::new(), is_lost: false, tell };
    judge.rule("describe", subject.describes_the_same()).await;
    judge.rule("counters", subject.tells_its_counters()).await;
    judge.rule("merge-rules", async { subject.says_its_merge_rules() }).await;
    for scope in Scope::ALL {
        state(&mut judge, subject, scope).await;
    }
    judge.rule("request-filter", request::filter(subject)).await;
    judge.rule("request-ids", request::ids(subject)).await;
    judge.rule("request-events", request::events(subject)).await;
    judge.rule("events-actions", events::actions(subject)).await;
    judge.rule("events-unknown", events::unknown(subject)).await;
    if subject.offers(Action::Process) {
        judge.rule("events-enable", events::enable(subject)).await;
        judge.rule("events-duplicate", events::duplicate(subject)).await;
        judge.rule("events-disable", events::disable(subject)).await;
        judge.rule("events-match", events::matching(subject)).await;
        judge.rule("events-all", events::all(subject)).await;
        judge.rule("events-gap", events::gap(subject)).await;
    }
    if subject.offers(Action::Drop) {
        judge.withholding("events-drop", events::dropping(subject)).await;
    }
    if subject.offers(Action::Buffer) {
        judge.withholding("events-cancel", events::cancel(subject)).await;
        judge.withholding("events-buffer", events::buffering(subject)).await;
    }
    Ok(judge.lines)
}

/// Waits until the run is interrupted, for ever where nobody can do that any more.
async fn until(mut interrupted: watch::Receiver<bool>) {
    if interrupted.wait_for(|is_so| *is_so).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether nobody answers, or there is not what was asked for.
fn is_absent(error: &CallError) -> bool {
    matches!(error, CallError::Unreachable { .. }) || error.reason() == Some("NOT_FOUND")
}

/// The rules of state of one scope.
async fn state<F: FnMut(&Line)>(judge: &mut Judge<'_, F>, subject: &Subject, scope: Scope) {
    let name = |rule: &str| format!("{scope}-{rule}");
    if !subject.has(scope) {
        judge.rule(&name("absent"), get::nothing(subject, scope)).await;
        return;
    }
    if judge.asks_of(&name("")) {
        subject.wait_for_state(scope).await;
    }
    judge.rule(&name("get-kinds"), get::kinds(subject, scope)).await;
    judge.disturbing(&name("get-since"), get::since(subject, scope)).await;
    judge.disturbing(&name("put-idempotent"), put::idempotent(subject, scope)).await;
    judge.disturbing(&name("put-stops"), put::stops(subject, scope)).await;
    if scope == Scope::PerFlow {
        judge.disturbing(&name("put-older"), put::older(subject)).await;
    }
    if scope != Scope::AllFlows {
        judge.disturbing(&name("get-filter"), get::filter(subject, scope)).await;
        judge.disturbing(&name("del"), put::del(subject, scope)).await;
        judge.disturbing(&name("put-restores"), put::restores(subject, scope)).await;
    }
    if scope != Scope::PerFlow && subject.offers(Action::Drop) {
        judge.disturbing(&name("join"), merge::join(subject, scope)).await;
    }
    for case in refuse::CASES {
        if case.applies(scope) {
            let name = name(&format!("refuses-{}", case.name));
            judge.disturbing(&name, refuse::refuses(subject, scope, case)).await;
        }
    }
}

/// Runs rules and keeps what comes of them.
struct Judge<'a, F> {
    options: &'a Options,
    subject: &'a Subject,
    lines: Vec<Line>,
    /// There is nothing to judge any more.
    is_lost: bool,
    tell: F,
}

impl<F: FnMut(&Line)> Judge<'_, F> {
    /// Whether some rule is to be judged whose name begins with this.
    fn asks_of(&self, prefix: &str) -> bool {
        let rules = self.options.rules.as_str();
        !self.is_over() && (rules.starts_with(prefix) || prefix.starts_with(rules))
    }

    /// Whether no rule is to be judged any more.
    fn is_over(&self) -> bool {
        self.is_lost || *self.subject.interrupted.borrow()
    }

    /// Judges a rule that leaves state as it is. It may be cut off: what packets it has dropped or
    /// kept back ends with its subscriptions.
    async fn rule(&mut self, name: &str, rule: impl Future<Output = Verdict>) {
        let interrupted = until(self.subject.interrupted.clone());
        let rule = async {
            tokio::select! {
                verdict = rule => verdict,
                () = interrupted => skip(INTERRUPTED),
            }
        };
        self.judge(name, rule).await;
    }

    /// Judges a rule, to its end.
    async fn judge(&mut self, name: &str, rule: impl Future<Output = Verdict>) {
        if !name.starts_with(&self.options.rules) || self.is_over() {
            return;
        }
        let waits = self.options.patience.saturating_mul(WAITS_MAX);
        let limit = RULE_LIMIT.saturating_add(waits);
        let outcome = match tokio::time::timeout(limit, rule).await {
            Ok(Ok(())) => Outcome::Pass,
            Ok(Err(Stop::Fail(why))) => Outcome::Fail(why),
            Ok(Err(Stop::Skip(why))) => Outcome::Skip(why),
            Err(_) => Outcome::Fail(format!("it takes longer than {limit:?}")),
        };
        self.subject.end_all().await;
        if matches!(outcome, Outcome::Fail(_)) {
            // Rules that nobody is there to keep are not broken.
            self.is_lost = self.subject.client.describe().await.is_err_and(|why| is_absent(&why));
        }
        let line = Line { rule: name.to_owned(), outcome };
        (self.tell)(&line);
        self.lines.push(line);
    }

    /// Judges a rule that puts and deletes state.
    async fn disturbing(&mut self, name: &str, rule: impl Future<Output = Verdict>) {
        if self.options.disturb {
            return self.judge(name, rule).await;
        }
        self.undisturbed(name).await;
    }

    /// Judges a rule that drops packets or keeps them back, and leaves state as it is.
    async fn withholding(&mut self, name: &str, rule: impl Future<Output = Verdict>) {
        if self.options.disturb {
            return self.rule(name, rule).await;
        }
        self.undisturbed(name).await;
    }

    async fn undisturbed(&mut self, name: &str) {
        let undisturbed =
            async { skip("it would drop packets or change state: that takes --disturb") };
        self.rule(name, undisturbed).await;
    }
}
