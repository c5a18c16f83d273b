//! `weir pki`.

use std::{io::ErrorKind, path::PathBuf, time::SystemTime};

use clap::{Subcommand, ValueEnum};
use weir_control::{
    fault::Fault,
    listen::Role,
    pki::{self, PkiError, Purpose},
};

use super::{escape, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a certificate authority in a directory
    Init {
        /// The directory; made with mode 0700
        directory: PathBuf,
    },
    /// Issue a certificate and its key, beside the authority
    Issue {
        /// The directory of the authority
        directory: PathBuf,
        /// Who it is for; also the name of the files
        #[arg(long)]
        name: String,
        /// What it allows
        #[arg(long, value_enum)]
        role: RoleName,
        /// A name or address that a server is reached by; may be repeated
        #[arg(long, value_name = "NAME")]
        san: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    /// The sidecar's side
    Server,
    /// The sidecar's side, of a node that moves state to others and from them
    Node,
    /// A caller that may change
    Operator,
    /// A caller that may look
    Viewer,
}

pub(crate) fn run(verb: Verb) -> Result<(), Failure> {
    let now = now();
    match verb {
        Verb::Init { directory } => {
            pki::init(&directory, now).map_err(|error| fault(&error))?;
            escape::tell(&format!("made an authority in {}", directory.display()));
        }
        Verb::Issue { directory, name, role, san } => {
            let purpose = match role {
                RoleName::Server => Purpose::Server,
                RoleName::Node => Purpose::Node,
                RoleName::Operator => Purpose::Caller(Role::Operator),
                RoleName::Viewer => Purpose::Caller(Role::Viewer),
            };
            pki::issue(&directory, &name, purpose, &san, now).map_err(|error| fault(&error))?;
            let certificate = directory.join(format!("{name}.crt"));
            escape::tell(&format!("issued {} and its key", certificate.display()));
        }
    }
    Ok(())
}

fn fault(error: &PkiError) -> Fault {
    let bad_file = || Fault::invalid("BAD_FILE", error.to_string());
    match error {
        PkiError::Exists(path) => {
            Fault::new(tonic::Code::AlreadyExists, "EXISTS", error.to_string())
                .object(path.display().to_string())
                .fix("choose another name or directory, or remove it when nobody needs it")
        }
        PkiError::Name(_) => Fault::invalid("ARGUMENT", error.to_string())
            .object("--name")
            .fix("choose another, as edge-1: not ca, and no dot first"),
        PkiError::NoSan => Fault::invalid("ARGUMENT", error.to_string())
            .object("--san")
            .fix("add --san edge-1.example or --san 192.0.2.1"),
        PkiError::File { path, source } => {
            let fix = match source.kind() {
                ErrorKind::NotFound => "make the authority first: weir pki init DIRECTORY",
                ErrorKind::PermissionDenied => "run as the user that the directory belongs to",
                _ => "see that the disk has room and is writable",
            };
            bad_file().object(path.display().to_string()).fix(fix)
        }
        PkiError::Certificate(_) => {
            bad_file().fix("see that ca.crt and ca.key are as weir pki init made them")
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid from this moment")]
fn now() -> SystemTime {
    SystemTime::now()
}
