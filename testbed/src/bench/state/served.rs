//! A network function in a process of its own.

use std::path::PathBuf;

use anyhow::Result;

use crate::folder::Folder;
use crate::namespace::Namespace;
use crate::process::{Process, sibling};
use crate::wait::LIMIT;

/// A process that serves the southbound API on a Unix socket, killed when dropped.
#[derive(Debug)]
pub(super) struct Served {
    _process: Process,
    folder: Folder,
}

impl Served {
    /// Starts a program in a namespace; `option` is that which takes the path of its socket.
    ///
    /// # Errors
    /// When it is not built or does not come up; with its last words.
    pub(super) fn start(
        namespace: &Namespace,
        program: &str,
        option: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let folder = Folder::new()?;
        let mut command = namespace.command(sibling(program)?);
        command.arg(option).arg(folder.path().join(SOCKET)).args(arguments);
        let mut process = Process::spawn(program, &command, &folder.path().join("log"))?;
        process.wait_for_socket(&folder.path().join(SOCKET), LIMIT)?;
        process.prefer();
        Ok(Self { _process: process, folder })
    }

    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }
}

const SOCKET: &str = "nf.sock";
