//! What a network function has counted, for people.

use std::borrow::Cow;
use std::collections::BTreeSet;

use weir_api::nf::v1::{Counter, GetCountersResponse};
use weir_state_transfer::quote::quoted;

use crate::description::Malformed;

/// Counters of one network function at most.
const COUNTERS_MAX: usize = 64;
/// Bytes of a name at most.
const NAME_MAX: usize = 64;

/// The answer of a network function that has counted this.
pub(crate) fn to_message(counters: Vec<(Cow<'static, str>, u64)>) -> GetCountersResponse {
    let counter = |(name, value): (Cow<'static, str>, u64)| Counter { name: name.into(), value };
    GetCountersResponse { counters: counters.into_iter().map(counter).collect() }
}

/// The counters of an answer, if they are as the API has them.
pub(crate) fn of_message(answer: GetCountersResponse) -> Result<Vec<Counter>, Malformed> {
    let counters = answer.counters;
    if counters.len() > COUNTERS_MAX {
        let count = counters.len();
        return Err(Malformed(format!("it has {count} counters: {COUNTERS_MAX} are the most")));
    }
    let mut names = BTreeSet::new();
    for Counter { name, .. } in &counters {
        if !is_name(name) {
            let name = quoted(name);
            return Err(Malformed(format!(
                "a counter is called {name}: snake_case, 1 to 64 bytes"
            )));
        }
        if !names.insert(name) {
            return Err(Malformed(format!("two counters are called {name}")));
        }
    }
    Ok(counters)
}

/// Whether a name is in snake_case, and no longer than it may be.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.split('_').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_bounded_and_have_names_in_snake_case_of_their_own() {
        let answer = |names: &[&str]| {
            let counter = |name: &&str| Counter { name: (*name).to_owned(), value: 3 };
            of_message(GetCountersResponse { counters: names.iter().map(counter).collect() })
        };
        let (longest, too_long) = ("a".repeat(NAME_MAX), "a".repeat(NAME_MAX + 1));
        assert_eq!(answer(&[]), Ok(Vec::new()));
        let told = answer(&["hits", "hit_bytes", "of_2", &longest]).expect("they are good");
        assert_eq!(told.len(), 4);
        for name in
            ["", "Hits", "hit bytes", "hit-bytes", "2nd", "_a", "a_", "a__b", "h\u{e4}", &too_long]
        {
            let refused = answer(&["hits", name]).expect_err(name);
            assert!(refused.0.contains("snake_case"), "{name}: {refused}");
        }
        let twice = answer(&["hits", "misses", "hits"]).expect_err("one is there twice");
        assert!(twice.0.contains("two counters are called hits"), "{twice}");
        let many: Vec<_> = (0..=COUNTERS_MAX).map(|n| format!("c{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(answer(&many[1..]).is_ok());
        let refused = answer(&many).expect_err("there are too many");
        assert!(refused.0.contains("65 counters: 64"), "{refused}");
    }
}
