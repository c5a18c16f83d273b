//! What is known of the conversations of the capture: in which of them others find something else
//! than the intrusion detection logs, by how much, and why.

use std::collections::BTreeSet;

/// Conversations that another one reads otherwise: the client; messages that only the log has;
/// messages that only the other has; why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known(pub(super) &'static [(&'static str, u64, u64, &'static str)]);

impl Known {
    /// Nothing is read otherwise.
    pub(super) const NOTHING: Self = Self(&[]);

    /// Why a conversation is read otherwise by so many messages, if that is known.
    pub(super) fn why(self, client: &str, logged: u64, other: u64) -> Option<&'static str> {
        let known =
            self.0.iter().find(|known| (known.0, known.1, known.2) == (client, logged, other));
        known.map(|known| known.3)
    }

    /// Conversations that should be read otherwise and are not among those that are.
    pub(super) fn absent<'a>(self, found: impl Iterator<Item = &'a str>) -> Vec<String> {
        let found: BTreeSet<_> = found.collect();
        let absent = self.0.iter().filter(|known| !found.contains(known.0));
        absent.map(|known| known.0.to_owned()).collect()
    }
}

/// Other than as the list has it, which counts packets that look like a request.
pub(super) const LISTED: Known = Known(&[
    ("10.0.0.15", 0, 1, "the line of the request breaks off"),
    ("10.0.0.59", 0, 2, AGAIN),
    ("10.0.0.61", 0, 1, AGAIN),
    ("10.0.0.69", 0, 1, AGAIN),
    ("10.0.2.75", 0, 1, NO_VERSION),
    ("10.0.2.82", 39, 0, "many requests are in one packet"),
    ("10.0.2.188", 0, 1, "bytes of the head of the request are missing"),
    ("10.0.2.218", 0, 5, AGAIN),
    ("10.0.2.219", 0, 5, AGAIN),
    ("10.0.2.238", 0, 3, AGAIN),
    ("10.0.2.245", 0, 1, BEHIND_SOCKS),
    ("10.0.2.246", 0, 1, BEHIND_SOCKS),
    ("10.0.2.247", 0, 1, BEHIND_SOCKS),
    ("10.0.3.2", 0, 12, AGAIN),
    ("10.0.3.192", 0, 1, AGAIN),
    ("10.0.3.206", 0, 1, "the head of the request does not end"),
    ("10.0.3.221", 1, 0, "two requests are in one packet"),
    ("10.0.3.224", 1, 0, "two requests are in one packet"),
    ("10.0.3.240", 0, 2, "two bodies begin as a request does"),
    ("10.0.4.1", 0, 1, NO_VERSION),
    ("10.0.4.14", 0, 1, AGAIN),
    ("10.0.4.27", 0, 1, NO_VERSION),
    ("10.0.4.28", 0, 1, NO_VERSION),
    ("10.0.4.36", 0, 1, AGAIN),
    ("10.0.4.43", 0, 1, NO_VERSION),
    ("10.0.4.47", 0, 1, NO_SPACE),
    ("10.0.4.56", 0, 1, NO_SPACE),
    ("10.0.4.60", 0, 1, NO_SPACE),
    ("10.0.4.61", 0, 1, NO_SPACE),
    ("10.0.4.76", 0, 1, AGAIN),
    ("10.0.4.79", 0, 1, AGAIN),
    ("10.0.4.82", 0, 4, "requests stand behind bytes that are missing"),
    ("10.0.4.84", 0, 1, NO_VERSION),
    ("10.0.4.99", 0, 1, BEHIND_SOCKS),
]);

const AGAIN: &str = "requests were sent again";
const NO_VERSION: &str = "the request has no version";
const BEHIND_SOCKS: &str = "the request stands behind SOCKS";
const NO_SPACE: &str = "no space is behind the method";

/// Requests that tshark 4.0 reads otherwise.
pub(super) const REQUESTS: Known = Known(&[
    ("10.0.0.76", 0, 1, "it looks into the tunnel that a CONNECT has made"),
    ("10.0.2.75", 0, 1, TAKES_NO_VERSION),
    ("10.0.2.135", 1, 1, "it ends a target at the first of its spaces"),
    ("10.0.2.166", 1, 0, PORT_OF_SSH),
    ("10.0.2.245", 0, 1, KNOWS_SOCKS),
    ("10.0.2.246", 0, 1, KNOWS_SOCKS),
    ("10.0.2.247", 0, 1, KNOWS_SOCKS),
    ("10.0.3.219", 0, 1, "it goes on behind a content length that is no number"),
    ("10.0.3.224", 1, 0, "it does not join a folded transfer encoding"),
    ("10.0.4.0", 1, 0, PORT_OF_SSH),
    ("10.0.4.1", 0, 1, TAKES_NO_VERSION),
    ("10.0.4.25", 1, 0, PORT_OF_SSH),
    ("10.0.4.26", 1, 0, PORT_OF_SSH),
    ("10.0.4.43", 0, 1, TAKES_NO_VERSION),
    ("10.0.4.72", 1, 0, "it takes the request for that of another protocol over HTTP"),
    ("10.0.4.84", 0, 1, TAKES_NO_VERSION),
    ("10.0.4.99", 0, 1, KNOWS_SOCKS),
]);

const TAKES_NO_VERSION: &str = "it takes a request without a version";
const PORT_OF_SSH: &str = "it takes port 22 for SSH";
const KNOWS_SOCKS: &str = "it knows SOCKS, which comes first";

/// Statuses of answers that tshark 4.0 reads otherwise.
pub(super) const STATUSES: Known = Known(&[
    ("10.0.0.18", 1, 0, NOT_WHOLE),
    ("10.0.0.105", 1, 0, LAST_CHUNK),
    ("10.0.0.107", 1, 0, LAST_CHUNK),
    ("10.0.0.124", 1, 0, NOT_IN_CHUNKS),
    ("10.0.0.128", 0, 1, "it takes 2.1 for a version of such an answer"),
    ("10.0.0.146", 1, 0, "it takes the encoding `chunked x` for chunks, which the body has not"),
    ("10.0.0.161", 1, 0, NOT_IN_CHUNKS),
    ("10.0.0.177", 1, 0, LAST_CHUNK),
    ("10.0.0.178", 1, 0, NOT_WHOLE),
    ("10.0.1.30", 1, 0, NOT_WHOLE),
    ("10.0.1.64", 1, 0, NOT_WHOLE),
    (
        "10.0.1.204",
        1,
        0,
        "it ends the first line at a bare carriage return, and misses the chunks named there",
    ),
    ("10.0.1.235", 0, 1, "it ends a head at a line of two carriage returns"),
    ("10.0.1.242", 1, 0, "the head ends with a space, and it gives none if the body is not whole"),
    ("10.0.2.37", 1, 0, "it gives none of two digits"),
    ("10.0.2.71", 2, 0, MISSING),
    ("10.0.2.72", 2, 0, MISSING),
    ("10.0.2.80", 2, 0, MISSING),
    ("10.0.2.245", 0, 1, KNOWS_SOCKS),
    ("10.0.2.246", 0, 1, KNOWS_SOCKS),
    ("10.0.2.247", 0, 1, KNOWS_SOCKS),
    ("10.0.3.242", 1, 0, MISSING),
    ("10.0.4.25", 1, 0, PORT_OF_SSH),
    ("10.0.4.99", 0, 1, KNOWS_SOCKS),
]);

const NOT_WHOLE: &str = "it gives none if the body is not whole";
const LAST_CHUNK: &str = "it gives none if the last chunk is not there or not whole";
const NOT_IN_CHUNKS: &str = "it gives none if the body has not the chunks that the head promises";
const MISSING: &str = "it gives none from bytes on that are missing";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_by_its_number_has_a_reason() {
        assert_eq!(LISTED.why("10.0.0.59", 0, 2), Some(AGAIN));
        assert_eq!(LISTED.why("10.0.0.59", 0, 3), None);
        assert_eq!(LISTED.why("10.0.0.59", 1, 2), None);
        assert_eq!(Known::NOTHING.why("10.0.0.59", 0, 2), None);
        let all = || LISTED.0.iter().map(|known| known.0);
        assert!(LISTED.absent(all()).is_empty());
        assert_eq!(LISTED.absent(all().skip(1)), ["10.0.0.15"]);
    }
}
