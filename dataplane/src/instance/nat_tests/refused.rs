//! Flows of a NAT that are refused, deleted or given up: nobody goes on counting them.

use super::*;

/// What is beyond the ports of a bucket does not begin, and nobody in front goes on knowing it.
#[test]
fn a_flow_that_finds_no_port_is_known_to_no_function() {
    let mut site = Site::new(1, true);
    let (mut began, mut refused) = (0, 0);
    for n in 0..48 {
        let host = Ipv4Addr::from_bits(INSIDE.to_bits() ^ n);
        match site.sends((host, 4000 ^ n as u16), (OUTSIDE, 53)) {
            Ok(_) => began += 1,
            Err(reason) => {
                assert_eq!(reason, DropReason::Nat);
                refused += 1;
            }
        }
        assert_eq!(site.instance.flows.known(), began, "after {n}");
    }
    assert!(began > 10 && refused > 10, "{began} began, {refused} did not");
    let open = site.counted_by("firewall", "begun") - site.counted_by("firewall", "ended");
    assert_eq!((open, site.open()), (began as u64, began as u64));
    assert_eq!(site.counted(&format!("exhausted.{EXTERNAL}")), refused);
}

/// Else whoever is outside could keep it alive as long as they like.
#[test]
fn a_packet_that_comes_back_and_is_refused_keeps_no_translation_alive() {
    let mut site = Site::with_rule(1, true, "out: accept src=10.0.0.0/8");
    let sent = site.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    let back = |site: &mut Site| site.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port()));
    // The firewall has forgotten the connection, and the NAT has not.
    site.now = site.now + UDP_TIMEOUT / 3 * 2;
    assert_eq!(back(&mut site), Err(DropReason::Firewall));
    site.now = site.now + UDP_TIMEOUT / 3;
    assert_eq!(back(&mut site), Err(DropReason::Nat), "its time is over");
}

/// As many translations use an address as there are, whatever has become of others.
#[test]
fn flows_that_are_deleted_put_or_given_up_are_not_counted_as_open() {
    let (mut here, mut there) = (Site::new(1, true), Site::new(2, true));
    here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    here.sends((RIVAL, 4001), (OUTSIDE, 53)).expect("it goes on");
    for chunk in here.get("any") {
        there.put(&chunk).expect("room");
    }
    assert_eq!((here.open(), there.open()), (2, 2));
    for chunk in here.get("any") {
        there.put(&chunk).expect("the same again");
    }
    assert_eq!(here.del(&first()), 1);
    assert_eq!((here.open(), there.open()), (1, 2), "nothing was put twice");
    here.now = here.now + UDP_TIMEOUT;
    (0..4).for_each(|_| here.instance.sweep(4_096, Nanos(0), here.now));
    assert_eq!((here.instance.flows.known(), here.open()), (0, 0), "it has ended");
}

#[test]
fn a_copy_uses_an_address_once_it_is_adopted() {
    let (mut here, mut there) = (Site::new(1, true), Site::new(2, false));
    let sent = here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    for chunk in here.get("any") {
        there.put(&chunk).expect("room");
    }
    assert_eq!((there.instance.flows.copies(), there.open()), (1, 0));
    assert_eq!(there.sends((INSIDE, 4000), (OUTSIDE, 53)), Ok(sent));
    assert_eq!((there.instance.flows.copies(), there.open()), (0, 1));
}

#[test]
fn a_panic_leaves_as_many_translations_counted_as_there_are() {
    for packets in [0, 1, 2] {
        let mut site = Site::new(1, true);
        let sent = site.sends((RIVAL, 4001), (OUTSIDE, 53)).expect("it goes on");
        for _ in 0..packets {
            site.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
        }
        site.instance.chain.ask_for_fault(crate::nf::During::Packet, 1);
        let sends = std::panic::AssertUnwindSafe(|| site.sends((INSIDE, 4000), (OUTSIDE, 53)));
        assert!(std::panic::catch_unwind(sends).is_err(), "it was asked for");
        let bucket = site.hash.bucket(&first());
        site.instance.flows.poison(first(), bucket, site.now);
        site.instance.settle();
        assert_eq!((site.instance.flows.known(), site.open()), (1, 1), "{packets} packets");
        assert_eq!(site.sends((RIVAL, 4001), (OUTSIDE, 53)), Ok(sent));
    }
}

/// It can not be found by what comes back, and its sender would wait for answers in vain.
#[test]
fn a_flow_whose_second_name_is_anothers_is_given_up_and_counted() {
    let (mut here, mut there) = (Site::new(1, true), Site::new(2, true));
    let sent = here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    assert_eq!(there.sends((RIVAL, 4001), (OUTSIDE, 53)), Ok(sent), "the same port");
    there.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("by another port");
    let chunks = here.get("any");
    let of_nat = chunks.iter().find(|chunk| chunk.schema == NAT_TRANSLATION.schema).expect("one");
    let (place, state) = there.instance.chain.flow_of(of_nat, there.now).expect("its own");
    // Past the check that a put does.
    let bucket = there.hash.bucket(&first());
    let put = |known: &mut FlowStates| known.put(place, state, 0).is_ok();
    assert_eq!(there.instance.flows.change_states(&first(), bucket, put), Some(true));
    there.instance.settle();
    assert_eq!((there.instance.flows.known(), there.open()), (1, 1));
    assert_eq!(there.instance.counters.functions_full.get(), 1);
    let back = there.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect("it comes back");
    assert_eq!((back.dst(), back.dst_port()), (RIVAL.into(), 4001));
}
