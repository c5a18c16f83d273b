//! A connection to a sidecar that a test can cut.

use std::path::{Path, PathBuf};

use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// What connects to its socket reaches that of the sidecar, unless it is cut.
pub(crate) struct Relay {
    is_cut: watch::Sender<bool>,
}

impl Relay {
    pub(crate) fn start(from: &Path, to: &Path) -> Self {
        let is_cut = watch::Sender::new(false);
        let listener = UnixListener::bind(from).unwrap();
        tokio::spawn(accept(listener, to.to_owned(), is_cut.subscribe()));
        Self { is_cut }
    }

    /// Ends all connections, or lets them be made again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

async fn accept(listener: UnixListener, to: PathBuf, is_cut: watch::Receiver<bool>) {
    while let Ok((caller, _)) = listener.accept().await {
        tokio::spawn(relay(caller, to.clone(), is_cut.clone()));
    }
}

async fn relay(mut caller: UnixStream, to: PathBuf, mut is_cut: watch::Receiver<bool>) {
    let Ok(mut sidecar) = UnixStream::connect(to).await else { return };
    tokio::select! {
        _ended = copy_bidirectional(&mut caller, &mut sidecar) => {}
        _cut = is_cut.wait_for(|is_cut| *is_cut) => {}
    }
}
