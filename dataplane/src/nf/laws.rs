//! What holds of the state of every function, whatever it is: for the tests of each.

use weir_state_transfer::chunk::{BODY_MAX, Scope};
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError};
use weir_state_transfer::{Chunk, FlowId, StateFilter};

/// All that a get gives in the end, so many at most in each call.
pub(crate) fn all_chunks(
    filter: &str,
    max: usize,
    mut get: impl FnMut(&Get<'_>, &mut Cursor, &mut Vec<Chunk>) -> More,
) -> Vec<Chunk> {
    let filter: StateFilter = filter.parse().expect("a filter");
    let asked = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max };
    let (mut cursor, mut all) = (Cursor::default(), Vec::new());
    for _ in 0..10_000 {
        let before = all.len();
        let more = get(&asked, &mut cursor, &mut all);
        assert!(all.len() - before <= max);
        if more == More::No {
            all.sort_by(|one, other| one.id.cmp(&other.id));
            return all;
        }
    }
    panic!("the get has no end: it is at {cursor:?}");
}

/// Checks how functions, all alike, take in a chunk that one of its kind has given: what is wrong
/// with it is refused and changes nothing, and twice is the same as once.
///
/// `seen` is all that can be seen of the state.
pub(crate) fn check_put<F>(
    chunk: &Chunk,
    wrong_ids: &[FlowId],
    make: impl Fn() -> F,
    put: impl Fn(&mut F, &Chunk) -> Result<(), PutError>,
    seen: impl Fn(&F) -> Vec<Chunk>,
) {
    let mut function = make();
    let untouched = seen(&function);
    let mut is_refused = |bad: &Chunk| {
        let error = put(&mut function, bad).expect_err("it is no such state");
        assert_eq!(seen(&function), untouched, "{error}");
        error
    };
    for bad in malformed(chunk) {
        assert!(matches!(is_refused(&bad), PutError::BadBody { .. }), "{} bytes", bad.body.len());
    }
    for bad in of_another_kind(chunk) {
        assert!(matches!(is_refused(&bad), PutError::UnknownSchema { .. }), "{bad:?}");
    }
    for id in wrong_ids {
        let bad = Chunk { id: id.clone(), ..chunk.clone() };
        assert!(matches!(is_refused(&bad), PutError::WrongId { .. }), "{id}");
    }
    for bad in with_one_bit_changed(chunk) {
        // Without its checksum it may be other state, which is taken in.
        match put(&mut function, &bad) {
            Err(_) => assert_eq!(seen(&function), untouched),
            Ok(()) => {
                seen(&function);
                function = make();
            }
        }
    }
    put(&mut function, chunk).expect("it is such state");
    let once = seen(&function);
    put(&mut function, chunk).expect("it is such state");
    assert_eq!(seen(&function), once, "twice is the same as once");
    assert_ne!(once, untouched, "it brings something");
    check_checksum(chunk);
}

/// Checks that functions which copy their merged state to each other at random all end with the
/// same, whatever the order: `make` makes those that there are at the beginning, the same each
/// time, and `copy` copies all that the first has to the second, or a part of it. Gives one of
/// them as it is in the end.
pub(crate) fn check_convergence<F, const N: usize>(
    make: impl Fn() -> [F; N],
    copy: impl Fn(&F, &mut F, &mut fastrand::Rng),
    seen: impl Fn(&F) -> Vec<Chunk>,
) -> F {
    let mut rng = weir_seed::rng();
    let mut ends = Vec::new();
    for _ in 0..6 {
        let mut functions = make();
        assert!(!all_same(&functions, &seen), "each has something of its own");
        for _ in 0..150 {
            let from = rng.usize(..N);
            let to = (from + rng.usize(1..N)) % N;
            let [from, to] = functions.get_disjoint_mut([from, to]).expect("two functions");
            copy(from, to, &mut rng);
        }
        assert!(all_same(&functions, &seen), "all have the same in the end");
        ends.extend(functions.into_iter().take(1));
    }
    assert!(all_same(&ends, &seen), "and they have it after any copies");
    ends.swap_remove(0)
}

fn all_same<F>(functions: &[F], seen: impl Fn(&F) -> Vec<Chunk>) -> bool {
    functions.windows(2).all(|pair| seen(&pair[0]) == seen(&pair[1]))
}

/// Bodies that are cut off, too long or too large.
fn malformed(chunk: &Chunk) -> impl Iterator<Item = Chunk> {
    let length = chunk.body.len();
    let lengths = (0..length).chain([length + 1, BODY_MAX, BODY_MAX + 1]);
    lengths.map(|length| {
        let mut bad = chunk.clone();
        bad.body.resize(length, 0);
        bad
    })
}

fn of_another_kind(chunk: &Chunk) -> impl Iterator<Item = Chunk> {
    let mut later = chunk.clone();
    later.schema.revision += 1;
    let mut other = chunk.clone();
    other.schema.kind ^= 0x0100;
    let scopes = Scope::ALL.into_iter().filter(|scope| *scope != chunk.scope);
    scopes.map(|scope| Chunk { scope, ..chunk.clone() }).chain([later, other])
}

fn with_one_bit_changed(chunk: &Chunk) -> impl Iterator<Item = Chunk> {
    (0..8 * chunk.body.len()).map(|place| {
        let mut bad = chunk.clone();
        bad.body[place / 8] ^= 1 << (place % 8);
        bad
    })
}

/// On the way no byte changes unnoticed.
fn check_checksum(chunk: &Chunk) {
    let bytes = chunk.encode().expect("a chunk");
    assert_eq!(Chunk::decode(&bytes).as_ref(), Ok(chunk));
    for place in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[place] ^= 0x55;
        assert!(Chunk::decode(&bad).is_err(), "byte {place}");
        assert!(Chunk::decode(&bytes[..place]).is_err(), "{place} bytes");
    }
}
