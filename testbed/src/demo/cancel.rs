//! Stopping the demo in order when the user asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, bail};
use tokio::runtime::Builder;

/// Whether the user has asked to stop. Waits look at it, so that guards clean up.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Is set by the next Ctrl-C.
    ///
    /// # Errors
    /// When the signal cannot be caught.
    pub fn on_interrupt() -> Result<Self> {
        let cancel = Self::default();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let set = cancel.clone();
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                set.0.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(cancel)
    }

    /// Fails when the user has asked to stop.
    ///
    /// # Errors
    /// Then.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted; everything has been cleaned up");
        }
        Ok(())
    }
}
