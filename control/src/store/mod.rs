//! What the sidecar remembers: desired state, operations, decisions and answered requests.
//!
//! One SQLite file in WAL mode and one thread that owns the connection. A process killed at any
//! moment loses nothing that was acknowledged. Intents (what callers asked for) are synced to the
//! disk before they are acknowledged; the progress of an operation is not, as after a power cut
//! the data plane that it belongs to is gone too.

mod answers;
mod database;
mod decisions;
mod desired;
mod journal;
mod leads;
mod ongoing;

use std::{path::Path, thread};

use tokio::sync::{mpsc, oneshot};

pub use self::{
    answers::{ANSWERS_MAX, Answer},
    database::Database,
    decisions::{DECISIONS_MAX, LoggedDecision},
    desired::{DESIRED_ROUTES_MAX, Desired, DesiredRoute, KeptRoute},
    journal::OPERATIONS_MAX,
    leads::LedMove,
    ongoing::{Ending, GOING_ON_MAX, KeptOperation, Numbered},
};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused: the disk is full, the file is broken or locked.
    #[error("the store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Another process has it open.
    #[error("another sidecar uses the store")]
    InUse,
    /// The file was written by a newer version.
    #[error("the store has schema version {found}; this version knows {known}")]
    Version {
        /// Of the file.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// The file was written by a version between two, which called another schema the same.
    #[error(
        "the store says that it has schema version {found}, and has not: {what}; move the file away, \
         then the sidecar begins with an empty one"
    )]
    Schema {
        /// What it says.
        found: i64,
        /// In what it differs.
        what: String,
    },
    /// A row says something that this version cannot read.
    #[error("the store holds {what} {value:?}, which cannot be read")]
    Unreadable {
        /// Which column.
        what: &'static str,
        /// What it holds.
        value: String,
    },
    /// A bound was reached.
    #[error("the store keeps at most {limit} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u32,
    },
    /// The directory of the file cannot be made.
    #[error("cannot make the directory of the store: {0}")]
    Directory(#[from] std::io::Error),
    /// The writer thread has ended.
    #[error("the store is closed")]
    Closed,
}

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// Jobs that may wait for the writer.
const JOBS_MAX: usize = 64;

/// The store, as the async parts use it: each job runs on the writer thread, in order.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens the file, makes it when it is absent, and starts the writer thread.
    ///
    /// # Errors
    /// When the file cannot be opened or has a newer schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut database = Database::open(path)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(JOBS_MAX);
        thread::Builder::new().name("weir-store".to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut database);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs a job on the writer thread, unless too many wait.
    ///
    /// # Errors
    /// What the job says, or that the writer has ended or has too many jobs waiting.
    pub async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        let (job, answer) = boxed(job);
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(StoreError::Full { what: "waiting jobs", limit: JOBS_MAX as u32 });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(StoreError::Closed),
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs a job on the writer thread, in its turn however many wait: for what has happened already
    /// and must not be forgotten, of which there is no more than there are operations.
    ///
    /// # Errors
    /// What the job says, or that the writer has ended.
    pub async fn keep<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        let (job, answer) = boxed(job);
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

type Answered<T> = oneshot::Receiver<Result<T, StoreError>>;

fn boxed<T, F>(job: F) -> (Job, Answered<T>)
where
    T: Send + 'static,
    F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |database| {
        // A caller that went away needs no answer; the job is done all the same.
        let _ = reply.send(job(database));
    });
    (job, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_happened_is_kept_however_many_jobs_wait() {
        let name = format!("weir-store-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let store = Store::open(&directory.join("control.db")).unwrap();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (tell, mut held) = mpsc::channel(1);
        let first = store.run(move |_| {
            tell.blocking_send(()).unwrap();
            // Whoever lets it go on may have gone.
            let _gone = wait.recv();
            Ok(())
        });
        let rest = async {
            held.recv().await.unwrap();
            while store.jobs.try_send(Box::new(|_| {})).is_ok() {}
            assert!(matches!(store.run(|_| Ok(())).await, Err(StoreError::Full { .. })));
            let kept = store.keep(|database| database.set_auto(true));
            let goes_on = async { go_on.send(()).unwrap() };
            tokio::join!(kept, goes_on).0.unwrap();
            assert_eq!(store.run(|database| database.desired()).await.unwrap().auto, Some(true));
        };
        tokio::join!(first, rest).0.unwrap();
        drop(store);
        // A test that fails for another reason should say that one.
        let _ = std::fs::remove_dir_all(directory);
    }
}
