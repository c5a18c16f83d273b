//! Errors as the user sees them, and the exit codes.

use std::{io, process::ExitCode};

use tonic::{Code, Status};
use weir_control::fault::Fault;

use super::{escape, output::Format};

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
    pub(crate) fn report(self, format: Format) -> ExitCode {
        match format {
            Format::Table => self.tell(),
            Format::Json => escape::tell_json(&self.json()),
        }
        ExitCode::from(self.exit_code())
    }

    fn tell(&self) {
        let Self::Fault(fault) = self else { return };
        escape::tell(&format!("error: {}   [{}]", fault.message, fault.reason));
        for (label, text) in [("object", fault.object.as_str()), ("fix", fix(fault))] {
            if !text.is_empty() {
                escape::tell(&format!("  {label:<8} {text}"));
            }
        }
    }

    /// One object on one line: it is the last that standard error gets.
    fn json(&self) -> serde_json::Value {
        let (code, message, object, fix) = match self {
            Self::Fault(fault) => {
                (fault.reason.as_str(), fault.message.as_str(), fault.object.as_str(), fix(fault))
            }
            Self::Problems => {
                ("PROBLEMS", "the check found problems", "", "standard output has them, with fixes")
            }
            Self::NotReached => {
                let fix = "standard output has its state and the reason: mend that, then repeat the command";
                ("NOT_REACHED", "the operation did not end as it was asked to", "", fix)
            }
        };
        serde_json::json!({ "code": code, "message": message, "object": object, "fix": fix })
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

/// What to do about a fault, by its kind when it does not say so itself.
fn fix(fault: &Fault) -> &str {
    if !fault.fix.is_empty() {
        return &fault.fix;
    }
    match fault.code {
        Code::InvalidArgument | Code::OutOfRange => {
            "correct what was given: the message says what is taken"
        }
        Code::Internal | Code::Unknown => "see the log of weir-control, then try again",
        // What stands in the way is in the message, and only the caller knows what was meant.
        _ => "",
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
        let fault = Fault::new(Code::Internal, "IO", format!("the system refuses: {error}"));
        fault.fix("see that the machine has memory, file descriptors and room on its disk").into()
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

    #[test]
    fn every_failure_has_a_code_and_a_message_in_json() {
        let fault = Fault::invalid("NO", "it is wrong").object("things/x");
        for failure in [Failure::from(fault), Failure::Problems, Failure::NotReached] {
            let json = failure.json();
            for key in ["code", "message", "fix"] {
                assert!(json[key].as_str().is_some_and(|text| !text.is_empty()), "{json}");
            }
            assert!(!json.to_string().contains('\n'), "{json}");
        }
    }
}
