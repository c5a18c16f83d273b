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

use std::{path::Path, sync::mpsc, thread};

use tokio::sync::oneshot;

pub use self::{
    answers::{ANSWERS_MAX, Answer},
    database::Database,
    decisions::{DECISIONS_MAX, LoggedDecision},
    desired::{Desired, DesiredRoute, KeptRoute, ROUTES_MAX},
    journal::OPERATIONS_MAX,
    leads::{LeadStep, LedMove},
    ongoing::GOING_ON_MAX,
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
    jobs: mpsc::SyncSender<Job>,
}

impl Store {
    /// Opens the file, makes it when it is absent, and starts the writer thread.
    ///
    /// # Errors
    /// When the file cannot be opened or has a newer schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut database = Database::open(path)?;
        let (jobs, queue) = mpsc::sync_channel::<Job>(JOBS_MAX);
        thread::Builder::new().name("weir-store".to_owned()).spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&mut database);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs a job on the writer thread.
    ///
    /// # Errors
    /// What the job says, or that the writer has ended or has too many jobs waiting.
    pub async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |database| {
            // A caller that went away needs no answer; the job is done all the same.
            let _ = reply.send(job(database));
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(_)) => {
                return Err(StoreError::Full { what: "waiting jobs", limit: JOBS_MAX as u32 });
            }
            Err(mpsc::TrySendError::Disconnected(_)) => return Err(StoreError::Closed),
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
