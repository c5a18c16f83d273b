//! What an error and all its causes say, in one line, and which is the last.

use std::error::Error;

/// An error and its causes, less those whose words an error around them has said already.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    causes_of(error.to_string(), error)
}

/// The same where `said` is said of the error itself.
pub fn causes_of(mut said: String, error: &(dyn Error + 'static)) -> String {
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !said.contains(&words) {
            said = format!("{said}: {words}");
        }
        next = cause.source();
    }
    said
}

/// The last of an error's causes: what the operating system or TLS said.
pub fn root_cause<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// What a status says: of a connection that was not made or that broke, the last cause, as tonic's
/// own words are "transport error".
pub fn words(status: &tonic::Status) -> String {
    status.source().map_or_else(|| status.message().to_owned(), |why| root_cause(why).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot do it: {0}")]
    struct Doubled(#[from] std::io::Error);

    #[test]
    fn a_cause_is_said_once_whether_or_not_the_error_says_it() {
        let io = || std::io::Error::from_raw_os_error(2);
        let said = causes(&Doubled(io()));
        assert_eq!(said, "cannot do it: No such file or directory (os error 2)");
        let around = std::io::Error::other(Doubled(io()));
        assert_eq!(causes(&around), said);
        assert_eq!(
            causes_of("no".to_owned(), &Doubled(io())),
            "no: No such file or directory (os error 2)"
        );
    }
}
