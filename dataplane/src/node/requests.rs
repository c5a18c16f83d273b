//! Answered requests: repeating one is answered as before and changes nothing.

use std::collections::VecDeque;

/// The last requests that were carried out, with what they made.
#[derive(Debug, Default)]
pub(super) struct Requests {
    answered: VecDeque<(String, u64)>,
}

/// Requests that are remembered.
const REMEMBERED: usize = 1024;

impl Requests {
    /// What the request made, if it was carried out before: the number of an object.
    pub(super) fn answer(&self, request: &str) -> Option<u64> {
        let found = self.answered.iter().rev().find(|(id, _)| !id.is_empty() && id == request);
        found.map(|(_, made)| *made)
    }

    /// Remembers what a request made. Requests without a name are not remembered.
    pub(super) fn remember(&mut self, request: &str, made: u64) {
        if request.is_empty() {
            return;
        }
        if self.answered.len() == REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back((request.to_owned(), made));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number_and_no_nameless_ones() {
        let mut requests = Requests::default();
        requests.remember("", 7);
        assert_eq!(requests.answer(""), None);
        for n in 0..=REMEMBERED as u64 {
            requests.remember(&format!("r{n}"), n);
        }
        assert_eq!(requests.answer("r0"), None);
        assert_eq!(requests.answer("r1"), Some(1));
    }
}
