//! Translations, usages and totals as chunks: what is taken in, what is refused, and that copies of
//! NATs become the same.

use weir_state_transfer::{Chunk, FlowId};

use super::transfer::translations;
use super::*;
use crate::nf::laws::{all_chunks, check_convergence, check_put};

/// The totals and the usages, in the order of their ids.
pub(super) fn all_of(nat: &Nat) -> (Vec<Chunk>, Vec<Chunk>) {
    (nat.get_all_flows(), usages_of(nat, "any", 2))
}

fn usages_of(nat: &Nat, filter: &str, max: usize) -> Vec<Chunk> {
    all_chunks(filter, max, |get, cursor, out| nat.get_multi_flow(get, cursor, out))
}

fn seen(nat: &Nat) -> Vec<Chunk> {
    let (totals, usages) = all_of(nat);
    [totals, usages].concat()
}

/// A NAT with three external addresses at which random hosts have begun flows.
fn busy(number: u32, flows: usize, rng: &mut Rng) -> Nat {
    let pool: Vec<_> = (1..4).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
    let hash = SteeringHash::new(0x6d5a);
    let mut instance = Instance::new(config(vec![source_rule(&pool)], vec![]), &hash, number);
    for _ in 0..flows {
        let host = Ipv4Addr::new(10, 0, 0, rng.u8(..));
        // Some are refused for want of a port.
        let _any_outcome = instance.sends(&udp((host, rng.u16(..)), (OUTSIDE, 53)));
    }
    instance.nat
}

#[test]
fn a_translation_is_taken_in_whole_or_not_at_all() {
    for known in translations() {
        let chunk = known.to_chunk(NOW);
        assert_eq!(chunk.time_left, Some(known.deadline().since(NOW)));
        let back = FlowId::flow(&known.original().reversed());
        let ids = [back, FlowId::default(), FlowId::host(INSIDE.into(), ServiceId(0))];
        let put = |place: &mut Option<Translation>, chunk: &Chunk| {
            *place = Some(Translation::from_chunk(chunk, NOW)?);
            Ok(())
        };
        let seen = |place: &Option<Translation>| place.iter().map(|t| t.to_chunk(NOW)).collect();
        check_put(&chunk, &ids, || None, put, seen);
    }
}

#[test]
fn usages_and_totals_are_taken_in_whole_or_not_at_all() {
    let mut rng = weir_seed::rng();
    let (totals, usages) = all_of(&busy(1, 500, &mut rng));
    let make = || busy(2, 0, &mut Rng::with_seed(1));
    let flow = FlowId::flow(&flow(17, (INSIDE, 1), (OUTSIDE, 2)));
    let stranger = FlowId::host(INSIDE.into(), ServiceId(0));
    let other_service = FlowId::host(EXTERNAL.into(), ServiceId(1));
    let ids = [flow.clone(), stranger.clone(), other_service, FlowId::default()];
    check_put(&usages[0], &ids, make, Nat::put_multi_flow, seen);
    check_put(&totals[0], &[flow, stranger], make, Nat::put_all_flows, seen);
}

#[test]
fn nats_that_copy_to_each_other_end_with_the_same() {
    let seed = weir_seed::rng().u64(..);
    let make = || {
        let mut rng = Rng::with_seed(seed);
        [1, 2, 3].map(|number| busy(number, 300, &mut rng))
    };
    let copy = |from: &Nat, to: &mut Nat, rng: &mut Rng| {
        let (totals, usages) = all_of(from);
        for chunk in usages.iter().filter(|_| rng.bool()) {
            to.put_multi_flow(chunk).expect("its own");
        }
        for chunk in totals.iter().filter(|_| rng.bool()) {
            to.put_all_flows(chunk).expect("its own");
        }
    };
    let end = check_convergence(make, copy, seen);
    let open: i128 = end.usages().map(|(_, usage)| usage.open.value()).sum();
    let begun: u64 = make().iter().map(|nat| nat.totals().begun.value()).sum();
    assert_eq!((open, end.totals().begun.value()), (i128::from(begun), begun));
}

#[test]
fn a_get_gives_what_its_filter_picks_and_del_forgets_it() {
    let mut nat = busy(1, 100, &mut weir_seed::rng());
    let picked = usages_of(&nat, "src=192.0.2.2/32", 1);
    let ids: Vec<_> = picked.iter().map(|chunk| chunk.id.clone()).collect();
    assert_eq!(ids, [FlowId::host(Ipv4Addr::new(192, 0, 2, 2).into(), ServiceId(0))]);
    assert_eq!(nat.del_multi_flow(&ids), 1);
    assert_eq!((nat.del_multi_flow(&ids), nat.usages().len()), (0, 2));
    nat.put_multi_flow(&picked[0]).expect("a rule has the address");
    assert_eq!(nat.usages().len(), 3);
}

/// A usage that was taken out is counted anew: a copy of what it was adds up with it, and does not
/// hide it.
#[test]
fn what_is_counted_after_a_usage_was_taken_out_adds_up_with_it() {
    let mut rng = weir_seed::rng();
    let mut nat = busy(1, 40, &mut rng);
    let taken = usages_of(&nat, "any", 2);
    let ids: Vec<_> = taken.iter().map(|chunk| chunk.id.clone()).collect();
    assert_eq!(nat.del_multi_flow(&ids), 3);
    let hash = SteeringHash::new(0x6d5a);
    let mut instance = Instance { nat, ..Instance::new(config(vec![], vec![]), &hash, 1) };
    for _ in 0..40 {
        let host = Ipv4Addr::new(10, 0, 0, rng.u8(..));
        let _any_outcome = instance.sends(&udp((host, rng.u16(..)), (OUTSIDE, 53)));
    }
    nat = instance.nat;
    for chunk in &taken {
        nat.put_multi_flow(chunk).expect("a rule has the address");
    }
    let open: i128 = nat.usages().map(|(_, usage)| usage.open.value()).sum();
    assert_eq!(open, i128::from(nat.totals().begun.value()));
}
