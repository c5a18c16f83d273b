//! What a refused request looks like: a status with an `ErrorInfo`, small enough for any client.
//!
//! A status travels in the trailers of an answer, where it is written two or three times. Trailers
//! that are larger than a client takes, 16 KiB with most and 8 KiB with some, cost it the answer, or
//! the connection with all that is asked on it. So what a status says is cut here, whatever was given.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of all reasons.
pub const DOMAIN: &str = "weir";

/// Bytes of the message of a status at most.
pub const MESSAGE_MAX: usize = 1 << 10;
/// Bytes of each text of its details at most.
pub const DETAIL_MAX: usize = 256;

/// The answer to a request that is refused. `reason` is what programs match on; `metadata` says what
/// it is about and what to do, as in `object` and `fix`; `bad` names a field of the request that is
/// wrong, and says what is wrong with it.
pub fn refusal(
    code: Code,
    message: &str,
    reason: &str,
    metadata: &[(&str, &str)],
    bad: Option<(&str, &str)>,
) -> Status {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), cut(value, DETAIL_MAX)));
    let mut details = ErrorDetails::with_error_info(
        cut(reason, DETAIL_MAX),
        DOMAIN,
        metadata.collect::<std::collections::HashMap<_, _>>(),
    );
    if let Some((field, what)) = bad {
        details.add_bad_request_violation(cut(field, DETAIL_MAX), cut(what, DETAIL_MAX));
    }
    Status::with_error_details(code, cut(message, MESSAGE_MAX), details)
}

/// A text of so many bytes at most; one that is cut ends with dots.
pub fn cut(text: &str, most: usize) -> String {
    const DOTS: &str = "...";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(DOTS.len()));
    format!("{}{DOTS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_fits_into_the_trailers_that_any_client_takes() {
        for piece in ["z", "\u{1}", "\"", "%", "\u{e9}", "\u{1f600}"] {
            let long = piece.repeat(60_000);
            let metadata = [("object", &*long), ("fix", &long), ("field", &long)];
            let bad = Some((&*long, &*long));
            let status = refusal(Code::InvalidArgument, &long, "REASON", &metadata, bad);
            let headers = status.into_http::<()>().into_parts().0.headers;
            let size = headers.iter().map(|(key, value)| key.as_str().len() + value.len() + 32);
            assert!(size.sum::<usize>() < 8 << 10, "of {piece:?}");
        }
    }

    #[test]
    fn what_is_short_is_said_in_full() {
        let bad = Some(("filter", "is none"));
        let object = [("object", "filter")];
        let status = refusal(Code::InvalidArgument, "no filter", "FILTER", &object, bad);
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((status.message(), &*info.metadata["object"]), ("no filter", "filter"));
        let bad = status.get_details_bad_request().expect("a BadRequest").field_violations;
        assert_eq!((&*bad[0].field, &*bad[0].description), ("filter", "is none"));
        assert_eq!(cut("\u{e9}\u{e9}\u{e9}", 6), "\u{e9}\u{e9}\u{e9}");
        assert_eq!(cut("\u{e9}\u{e9}\u{e9}\u{e9}", 6), "\u{e9}...");
    }
}
