//! Errors as the user sees them, and the exit codes.

use std::{io, process::ExitCode};

use tonic::{Code, Status};
use weir_control::fault::Fault;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server, or the way to it, says no.
    Fault(Fault),
    /// A check found problems; they have been shown.
    Problems,
    /// An operation that was waited for ended otherwise; it has been shown.
    NotReached,
}

impl Failure {
    /// Says on standard error what went wrong, about which object, and what to do.
    pub(crate) fn report(self) -> ExitCode {
        if let Self::Fault(fault) = &self {
            eprintln!("error: {}   [{}]", fault.message, fault.reason);
            for (label, text) in [("object", &fault.object), ("fix", &fault.fix)] {
                if !text.is_empty() {
                    eprintln!("  {label:<8} {text}");
                }
            }
        }
        ExitCode::from(self.exit_code())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::NotReached => 1,
            Self::Problems => 9,
            Self::Fault(fault) if fault.reason == "BAD_FILE" => 5,
            Self::Fault(fault) => match fault.code {
                Code::InvalidArgument | Code::OutOfRange => 2,
                Code::NotFound => 3,
                Code::FailedPrecondition
                | Code::Aborted
                | Code::AlreadyExists
                | Code::ResourceExhausted => 4,
                Code::Unavailable => 6,
                Code::PermissionDenied | Code::Unauthenticated => 7,
                Code::DeadlineExceeded => 8,
                _ => 1,
            },
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Fault(Fault::from_status(&status))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Fault(Fault::new(Code::Internal, "IO", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_as_documented() {
        for (code, exit) in [
            (Code::InvalidArgument, 2),
            (Code::NotFound, 3),
            (Code::FailedPrecondition, 4),
            (Code::Aborted, 4),
            (Code::Unavailable, 6),
            (Code::PermissionDenied, 7),
            (Code::DeadlineExceeded, 8),
            (Code::Internal, 1),
        ] {
            assert_eq!(Failure::from(Status::new(code, "")).exit_code(), exit, "{code:?}");
        }
        assert_eq!(Failure::Problems.exit_code(), 9);
        assert_eq!(Failure::from(Fault::invalid("BAD_FILE", "")).exit_code(), 5);
    }
}
