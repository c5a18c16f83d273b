//! What stays behind, and what a function costs that panics at a piece.

use std::collections::BTreeSet;

use weir_state_transfer::ServiceId;
use weir_state_transfer::flow_id::Ends;
use weir_state_transfer::southbound::StateKind;

use super::*;
use crate::nf::chain::Caught;
use crate::nf::function::{FlowState, Refused, Shown};
use crate::nf::numbered::Numbered;
use crate::nf::schema::IDS_SOURCE;

/// The host at which functions here panic, when they do something with it.
const WEAK: u8 = 3;
/// Hosts that there are.
const HOSTS: [u8; 6] = [1, 2, 3, 4, 5, 6];

/// A piece about all hosts of a network.
fn of_network(network: &str) -> Chunk {
    let id = FlowId::new(Ends::Host(network.parse().unwrap()), None, None);
    IDS_SOURCE.chunk(id, Vec::new())
}

#[test]
fn what_a_filter_names_only_in_part_stays_and_is_told_of() {
    let filter: StateFilter = "src=10.1.0.0/16".parse().unwrap();
    let networks = (0..40).map(|n| format!("10.{}.0.0/{}", n % 2, 8 + n % 2 * 12));
    let mut chunks: Vec<_> = networks.map(|network| of_network(&network)).collect();
    let mut left = LeftBehind::default();
    left.separate(&filter, &mut chunks);
    assert!(chunks.len() == 20 && chunks.iter().all(|chunk| *chunk == of_network("10.1.0.0/20")));
    assert_eq!((left.count, left.first.len()), (20, TOLD));
    assert_eq!(left.first[0].to_string(), "host=10.0.0.0/8");
}

/// When a function panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Never,
    /// Whatever it is asked for.
    Get,
    /// When it gives the weak host.
    Give,
    /// When it is to forget the weak host.
    Forget,
    /// When it is to take the weak host in.
    Join,
}

/// A function that knows hosts, and panics at one of them.
#[derive(Debug)]
struct Fragile {
    hosts: Numbered<u8, ()>,
    at: At,
    room: usize,
}

fn id(host: u8) -> FlowId {
    FlowId::host([10, 0, 0, host].into(), ServiceId(0))
}

fn host(id: &FlowId) -> u8 {
    *HOSTS.iter().find(|host| self::id(**host) == *id).expect("a host")
}

impl Function for Fragile {
    fn kind(&self) -> &'static str {
        "fragile"
    }

    fn kinds(&self) -> &'static [StateKind] {
        &[IDS_SOURCE]
    }

    fn unknown(&self) -> FlowState {
        FlowState::Ids(None)
    }

    fn packet(&mut self, _: &mut FlowState, _: Shown<'_>, _: Moment) -> Result<(), Refused> {
        Ok(())
    }

    fn is_over(&self, _: &FlowState, _: Moment) -> bool {
        true
    }

    fn expire(&mut self, _: &mut FlowState, _: Moment) {}

    fn counters(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    fn chunk_of(&self, _: &FlowState, _: Moment) -> Option<Chunk> {
        None
    }

    fn state_of(&self, chunk: &Chunk, _: Moment) -> Result<FlowState, PutError> {
        Err(PutError::wrong_id(chunk))
    }

    fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        _: Moment,
    ) -> More {
        assert!(self.at != At::Get, "it gives nothing");
        self.hosts.pick(
            get,
            cursor,
            |host| id(*host),
            |found, ()| {
                assert!(self.at != At::Give || found != id(WEAK), "it does not give this one");
                out.push(IDS_SOURCE.chunk(found, Vec::new()));
            },
        )
    }

    fn put_multi_flow(&mut self, chunk: &Chunk, _: Moment) -> Result<(), PutError> {
        assert!(self.at != At::Join || chunk.id != id(WEAK), "it does not take this one in");
        if self.hosts.len() == self.room {
            return Err(PutError::full(chunk, "hosts", self.room));
        }
        self.hosts.insert(host(&chunk.id), ());
        Ok(())
    }

    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        assert!(self.at != At::Forget || !ids.contains(&id(WEAK)), "it does not forget this one");
        ids.iter().filter(|id| self.hosts.remove(&host(id)).is_some()).count()
    }

    fn get_all_flows(&self) -> Vec<Chunk> {
        Vec::new()
    }

    fn put_all_flows(&mut self, _: &Chunk) -> Result<(), PutError> {
        Ok(())
    }

    fn end(&mut self, _: &mut FlowState) {
        assert!(self.at == At::Never, "it ends nothing");
    }
}

/// A chain of two functions, the first of which panics.
fn chain(hosts: &[u8], at: At, room: usize) -> Chain {
    let mut chain = Chain::default();
    for at in [at, At::Never] {
        let mut known = Numbered::default();
        hosts.iter().for_each(|host| _ = known.insert(*host, ()));
        chain.functions.push(Box::new(Fragile { hosts: known, at, room }));
    }
    chain
}

/// All that can be taken out of a chain: the pieces of each function, how many are lost, and how many
/// have stayed.
fn taken(chain: &mut Chain) -> ([BTreeSet<u8>; 2], u64, u64) {
    let (mut cursor, mut left) = (MultiFlowCursor::default(), LeftBehind::default());
    let (mut pieces, mut lost) = ([BTreeSet::new(), BTreeSet::new()], 0);
    let filter = StateFilter::default();
    for _ in 0..100 {
        let next = chain.take_multi_flow(&mut cursor, &filter, 2, Nanos(0), &mut left);
        let Some((state, newly_lost)) = next else { return (pieces, lost, left.count) };
        pieces[state.function].extend(state.pieces.iter().map(|piece| host(&piece.chunk.id)));
        lost += newly_lost;
    }
    panic!("it has no end");
}

fn known(chain: &Chain) -> [BTreeSet<u8>; 2] {
    let mut known = [BTreeSet::new(), BTreeSet::new()];
    for (function, known) in chain.functions.iter().zip(&mut known) {
        let filter = StateFilter::default();
        let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: 100 };
        let mut chunks = Vec::new();
        function.get_multi_flow(&get, &mut Cursor::default(), &mut chunks, chain.moment(Nanos(0)));
        known.extend(chunks.iter().map(|chunk| host(&chunk.id)));
    }
    known
}

/// How often each function has panicked, and who was told of last.
fn panics(chain: &mut Chain) -> ([u64; 2], Option<Caught>) {
    let counted: Vec<_> = chain.counters().map(|(_, counters)| counters[0].1).collect();
    (counted.try_into().unwrap(), chain.take_caught())
}

fn caught(panics: u64) -> Option<Caught> {
    Some(Caught { panics, function: "fragile" })
}

#[test]
fn a_function_that_panics_when_it_gives_costs_that_piece_which_stays() {
    let all: BTreeSet<u8> = BTreeSet::from(HOSTS);
    let but_one: BTreeSet<u8> = HOSTS.into_iter().filter(|host| *host != WEAK).collect();
    let none = BTreeSet::new();
    for (at, first, lost, left, panicked) in [
        (At::Never, &all, 0, 0, 0),
        (At::Give, &but_one, 0, 1, 1),
        (At::Forget, &but_one, 1, 0, 1),
        // What would panic again and again is asked once.
        (At::Get, &none, 0, 1, 1),
    ] {
        let mut source = chain(&HOSTS, at, 100);
        assert_eq!(taken(&mut source), ([first.clone(), all.clone()], lost, left), "{at:?}");
        let told = (panicked > 0).then(|| caught(panicked)).flatten();
        assert_eq!(panics(&mut source), ([panicked, 0], told), "{at:?}");
        assert_eq!(source.take_caught(), None, "it is told once");
        assert_eq!(source.panicked(), None, "nothing was at work");
    }
}

#[test]
fn a_function_that_panics_when_it_takes_in_costs_that_piece_and_what_has_no_room_comes_back() {
    let pieces = || {
        let chunk = |host| IDS_SOURCE.chunk(id(host), Vec::new());
        HOSTS.into_iter().map(|host| Piece { chunk: chunk(host), by: None }).collect::<Vec<_>>()
    };
    for (at, lost, back) in [(At::Never, 0, [5, 6].as_slice()), (At::Join, 1, &[6])] {
        let mut destination = chain(&[], at, 4);
        for function in [0, 1] {
            let state = MultiFlow { function, pieces: pieces() };
            let (refused, gone) = destination.join_multi_flow(state, Nanos(0));
            let refused: Vec<_> =
                refused.pieces.iter().map(|piece| host(&piece.chunk.id)).collect();
            let expected = if function == 0 { (back, lost) } else { ([5, 6].as_slice(), 0) };
            assert_eq!((refused.as_slice(), gone), expected, "{at:?}, function {function}");
        }
        let joined: BTreeSet<u8> = HOSTS.into_iter().filter(|n| !back.contains(n)).collect();
        let first: BTreeSet<u8> = joined.into_iter().filter(|n| lost == 0 || *n != WEAK).collect();
        assert_eq!(known(&destination), [first, (1..=4).collect()], "{at:?}");
        let told = (lost > 0).then(|| caught(lost)).flatten();
        assert_eq!(panics(&mut destination), ([lost, 0], told), "{at:?}");
    }
}

#[test]
fn what_an_instance_that_is_gone_knew_is_taken_over_but_for_the_piece_at_which_a_function_panics() {
    for (gone, here) in [(At::Give, At::Never), (At::Get, At::Never), (At::Never, At::Join)] {
        let mut heir = chain(&[], here, 100);
        heir.inherit(chain(&HOSTS, gone, 100));
        (0..100).for_each(|_| _ = heir.sweep(2, Nanos(0)));
        assert!(!heir.is_inheriting());
        let first = HOSTS.into_iter().filter(|host| gone != At::Get && *host != WEAK);
        assert_eq!(known(&heir), [first.collect(), BTreeSet::from(HOSTS)], "{gone:?}, {here:?}");
        assert_eq!(panics(&mut heir), ([1, 0], caught(1)), "{gone:?}, {here:?}");
    }
}

#[test]
fn a_function_that_panics_at_the_end_of_a_flow_keeps_no_other_from_it() {
    let mut chain = chain(&HOSTS, At::Get, 100);
    let mut states = [FlowState::Ids(None), FlowState::Ids(None)];
    chain.end(&mut states);
    assert_eq!(panics(&mut chain), ([1, 0], caught(1)));
}

/// Where a call is not part of a move in the node, who calls is told that it has failed.
#[test]
fn a_function_that_panics_in_a_call_of_the_southbound_api_is_named_and_counted() {
    let filter = StateFilter::default();
    let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: 100 };
    let weak = IDS_SOURCE.chunk(id(WEAK), Vec::new());
    for at in [At::Give, At::Forget, At::Join] {
        let mut chain = chain(&HOSTS, at, 100);
        let call = std::panic::AssertUnwindSafe(|| match at {
            At::Forget => chain.del_multi_flow(&[id(1), id(WEAK)]),
            At::Join => chain.put_multi_flow(&weak, Nanos(0)).map_or(0, |()| 1),
            _ => {
                let mut chunks = Vec::new();
                chain.get_multi_flow(&get, &mut Cursor::default(), &mut chunks, Nanos(0));
                chunks.len()
            }
        });
        assert!(std::panic::catch_unwind(call).is_err(), "{at:?}");
        assert_eq!(chain.panicked(), Some("fragile"), "{at:?}");
        assert_eq!(panics(&mut chain), ([1, 0], None), "{at:?}");
        assert_eq!((chain.del_multi_flow(&[id(6)]), chain.panicked()), (1, None), "{at:?}");
    }
}
