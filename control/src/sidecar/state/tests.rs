//! What becomes of an operation whose task does not come to its end.

use std::path::PathBuf;

use prost::Name as _;
use weir_api::{
    dataplane::v1::{Guarantee, ShareMode},
    v1::ShareRequest,
};
use weir_state_transfer::{StateFilter, chunk::Scope};

use super::*;
use crate::{
    config::Config,
    state_manager::{
        end::End,
        lead::{LeadStep, Plan},
        operation::{CopyAsked, MoveAsked, Selection, ShareAsked},
    },
    store::LedMove,
};

/// How long a test waits for an event before it fails.
const LIMIT: Duration = Duration::from_secs(60);

/// A sidecar without a data plane, in a folder that goes with it.
struct Alone {
    sidecar: Arc<Sidecar>,
    folder: PathBuf,
}

impl Alone {
    async fn start(name: &str) -> Self {
        let folder = format!("weir-control-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let root = folder.display();
        let text = format!(
            "[control]\nsocket = '{root}/c.sock'\ndataplane_socket = '{root}/d.sock'\n\
             store = '{root}/store/control.db'\n"
        );
        let config = Config::parse(&text, "weir.toml").expect("a configuration");
        let sidecar = Sidecar::start(config, None).await.expect("it starts");
        Self { sidecar, folder }
    }

    /// Begins an operation whose task panics once `left` is in the store; its number.
    async fn cut_off(&self, asked: Asked, left: impl FnOnce(u64) -> Option<LedMove>) -> u64 {
        let begun = self.sidecar.begin_operation(asked, "r", None).await.expect("it begins");
        let (operation, reins, _reader) = begun;
        if let Some(row) = left(operation.id) {
            let kept = self.sidecar.store.run(move |database| database.begin_lead(&row)).await;
            kept.expect("it is written down");
        }
        let task = tokio::spawn(async move {
            tokio::task::yield_now().await;
            panic!("a fault of {reins:?}");
        });
        assert!(task.await.is_err_and(|error| error.is_panic()));
        operation.id
    }

    /// Writes a share down as an earlier sidecar has left it, which nobody follows; its number.
    async fn left_share(&self) -> u64 {
        let kept = |database: &mut Database| {
            database.reserve("r", &ShareRequest::full_name(), &[])?;
            let id = database.number_operation("r")?.id;
            let mut share = StateOperation { id, ..StateOperation::default() };
            "r".clone_into(&mut share.request_id);
            share.set_kind(StateOperationKind::Share);
            share.set_state(StateOperationState::Running);
            database.amend("r", &listing::answer_with(share), true)?;
            Ok(id)
        };
        self.sidecar.store.run(kept).await.expect("it is written down")
    }

    /// Waits until an operation is so.
    async fn becomes(&self, id: u64, state: State) -> Operation {
        let mut table = self.sidecar.state().watch();
        let is_so = |table: &Table| table.find(id).is_some_and(|found| found.state == state);
        let seen = tokio::time::timeout(LIMIT, table.wait_for(is_so)).await;
        let seen = seen.expect("it becomes so").expect("a table");
        seen.find(id).expect("it is remembered").clone()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // A test that fails for another reason should say that one.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn ends() -> [End; 2] {
    ["a", "b"].map(|name| End::Nf(name.to_owned()))
}

/// Who has the right to change waits for a data plane that hangs.
#[tokio::test]
async fn who_asks_about_what_nobody_follows_is_answered_and_may_cancel_it_meanwhile() {
    let alone = Alone::start("watch").await;
    let (id, sidecar) = (alone.left_share().await, &alone.sidecar);
    let _changes = sidecar.changes.lock().await;
    let asks = tokio::time::timeout(LIMIT, sidecar.find_state_operation(id));
    let fault = asks.await.expect("it is answered").expect_err("nobody follows it");
    assert_eq!((&*fault.reason, fault.code), ("NOT_TAKEN_UP", Code::Unavailable));
    assert!(fault.message.contains("is not taken up within 8s"), "{fault:?}");
    let told = sidecar.cancel_operation(id).await.expect("that needs the store alone");
    assert_eq!((told.id, told.state()), (id, StateOperationState::Running));
    let row = sidecar.store.run(move |database| database.kept_operation(id)).await;
    assert_eq!(row.expect("it is read").and_then(|row| row.ending), Some(Ending::Cancelled));
}

/// The words of the library are "Timeout expired".
#[tokio::test]
async fn why_the_data_plane_does_not_answer_is_said_in_words_of_ours() {
    let says = "no answer within 5s";
    let alone = Alone::start("words").await;
    let silent = std::os::unix::net::UnixListener::bind(alone.folder.join("d.sock"));
    let _silent = silent.expect("a socket");
    let mut link = alone.sidecar.link();
    let seen = tokio::time::timeout(LIMIT, link.wait_for(|link| link.error == says)).await;
    drop(seen.expect("it is tried").expect("a link"));
    let instance = End::Instance { id: 1, name: "sw1".to_owned(), life: 1 };
    let failure = alone.sidecar.recognise(&instance).await.expect_err("nobody answers");
    assert_eq!(failure.reason, format!("the data plane does not answer: {says}"));
}

#[tokio::test]
async fn an_operation_whose_task_panics_has_failed_and_says_so() {
    let alone = Alone::start("panic").await;
    let ([from, to], scopes) = (ends(), [Scope::MultiFlow].into());
    let copy = Asked::Copy(CopyAsked { from, to, filter: StateFilter::default(), scopes });
    let id = alone.cut_off(copy, |_| None).await;
    let ended = alone.becomes(id, State::Failed).await;
    let kind = ended.failure.as_ref().map(|failure| &failure.kind);
    assert_eq!(kind, Some(&FailureKind::Internal));
}

#[tokio::test]
async fn a_share_whose_task_panics_is_left_to_who_ends_those_that_nobody_follows() {
    let alone = Alone::start("panic-share").await;
    let share = ShareAsked {
        instances: Vec::new(),
        filter: StateFilter::default(),
        scopes: [Scope::MultiFlow].into(),
        mode: ShareMode::Strong,
    };
    let reserve = |database: &mut Database| database.reserve("r", &ShareRequest::full_name(), &[]);
    alone.sidecar.store.run(reserve).await.expect("it is kept");
    let id = alone.cut_off(Asked::Share(share), |_| None).await;
    alone.becomes(id, State::Failed).await;
    let begun = |database: &mut Database| database.begun(&ShareRequest::full_name());
    let looked_for = async {
        loop {
            let begun = alone.sidecar.store.run(begun).await.expect("it is read");
            if begun.iter().any(|answer| answer.answered && answer.goes_on) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, looked_for).await.expect("it is kept as one that goes on");
}

#[tokio::test]
async fn a_move_that_may_hold_packets_is_taken_up_when_its_task_panics() {
    let alone = Alone::start("panic-move").await;
    let ([from, to], scopes) = (ends(), [Scope::PerFlow].into());
    let filter = StateFilter::default();
    let selection = Selection::Filter(filter.clone());
    let asked = MoveAsked { from, to, selection, scopes, guarantee: Guarantee::Ordered };
    let row = |operation| LedMove {
        operation,
        request_id: "r".to_owned(),
        ends: ("a".to_owned(), "b".to_owned()),
        filter,
        scopes: asked.scopes.clone(),
        guarantee: asked.guarantee,
        incarnation: 1,
        destination_life: String::new(),
        overflow: 0,
        lost: 0,
        step: LeadStep::Hold,
        plan: Plan::default(),
        moved: Vec::new(),
        finishing: Vec::new(),
    };
    let id = alone.cut_off(Asked::Move(asked.clone()), |id| Some(row(id))).await;
    // It goes back, as soon as the data plane is there.
    let undoing = alone.becomes(id, State::Undoing).await;
    assert_eq!(undoing.ended, None);
    assert_eq!(alone.sidecar.state().table.borrow().leading(), Some(id));
}
