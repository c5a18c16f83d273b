//! The Unix socket: its peer is checked by credentials.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

use super::{BackOff, Caller, Connection, Limits, ListenError, connection::Stream};

/// Binds the socket with mode 0600. A socket that nobody listens on, left by an earlier run, is
/// taken over; anything else at that path is refused.
///
/// # Errors
/// When another process listens there, the path is no socket, or the system refuses.
pub async fn prepare_socket(path: &Path) -> Result<UnixListener, ListenError> {
    let system = |source| ListenError::System { what: path.display().to_string(), source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(system)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(ListenError::InUse(path.to_owned()));
            }
            fs::remove_file(path).map_err(system)?;
        }
        Ok(_) => return Err(system(io::Error::other("there is a file that is not a socket"))),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(system)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(system)?;
    Ok(listener)
}

/// Lets in processes of our own user and of root until the receiver goes away.
pub async fn listen_unix(
    listener: UnixListener,
    limits: Limits,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let own = rustix::process::geteuid().as_raw();
    let mut back_off = BackOff::new();
    loop {
        let Ok(slot) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = tokio::select! {
            accept = listener.accept() => match accept {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    back_off.wait().await;
                    continue;
                }
            },
            () = accepted.closed() => return,
        };
        back_off.reset();
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => {
                let (stream, caller) = (Stream::Unix(stream), Caller::Local { uid: peer.uid() });
                let connection = Connection::new(stream, caller, (slot, None), limits.preface);
                if accepted.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
            Ok(peer) => tracing::warn!(uid = peer.uid(), "refuses a process of another user"),
            Err(error) => tracing::warn!(%error, "refuses a process without credentials"),
        }
    }
}
