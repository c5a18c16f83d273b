//! AF_XDP over veth, each test in a network namespace of its own.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod live;
mod namespace;

use std::os::fd::AsFd;

use libbpf_rs::{Xdp, XdpFlags};
use namespace::{
    Kernel, Owner, Port, RINGS, Stock, eventually, foreign_program, in_namespace, ip, packet, veth,
};
use weir_frame::Frame;
use weir_xdp::{Device, Error, Mode, Program, RingSizes, Socket, Umem};

#[test]
#[ignore = "needs root"]
fn packets_pass_between_two_sockets_byte_for_byte_and_in_order() {
    in_namespace(|| {
        let mut random = weir_seed::rng();
        veth("a", "b", 1);
        let mut stock = Stock::new(8192);
        let (mut a, mut b) = (Port::open("a", &mut stock), Port::open("b", &mut stock));
        for round in 0..200 {
            let sent: Vec<Vec<u8>> = (0..random.usize(1..100))
                .map(|_| {
                    let mut packet = packet(0x0800, random.usize(60..=1514));
                    packet[14..].fill_with(|| random.u8(..));
                    packet
                })
                .collect();
            let (from, to) = if round % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
            from.send_all(&mut stock.pool, &sent);
            let received = to.receive(&mut stock.pool, sent.len());
            for (frame, expected) in received.iter().zip(&sent) {
                assert_eq!(frame.data(), expected.as_slice(), "round {round}");
            }
            stock.pool.adopt(received);
        }
        let statistics = a.rx.statistics().unwrap();
        assert_eq!(statistics, weir_xdp::Statistics::default());
        assert_eq!(a.rx.bad_descriptors() + b.rx.bad_descriptors(), 0);
    });
}

#[test]
#[ignore = "needs root"]
fn a_packet_is_forwarded_in_the_chunk_that_it_arrived_in() {
    in_namespace(|| {
        veth("a", "inside-a", 1);
        veth("b", "inside-b", 1);
        let mut far = Stock::new(4096);
        let (mut a, mut b) = (Port::open("a", &mut far), Port::open("b", &mut far));
        let mut near = Stock::new(4096);
        let mut first = Port::open("inside-a", &mut near);
        let mut second = Port::open("inside-b", &mut near);

        let sent = packet(0x86dd, 1000);
        a.send_all(&mut far.pool, std::slice::from_ref(&sent));
        let mut received = first.receive(&mut near.pool, 1);
        let frame = received.pop().unwrap();
        let (index, start) = (frame.index(), frame.data().as_ptr());
        second.tx.send(frame).unwrap();
        assert_eq!(second.tx.flush(&mut near.pool), 0);
        assert_eq!(b.receive(&mut far.pool, 1)[0].data(), sent);

        let mut again = std::iter::from_fn(|| near.pool.alloc()).filter(|f| f.index() == index);
        let mut frame = again.next().expect("the chunk that was sent is free again");
        frame.set_len(1).unwrap();
        assert_eq!(frame.data().as_ptr(), start);
    });
}

#[test]
#[ignore = "needs root"]
fn more_packets_than_one_call_takes_leave_in_one_flush() {
    in_namespace(|| {
        veth("a", "b", 1);
        let mut stock = Stock::new(4096);
        let (mut a, mut b) = (Port::open("a", &mut stock), Port::open("b", &mut stock));
        let sent = vec![packet(0x0800, 60); 500];
        a.send_all(&mut stock.pool, &sent);
        assert_eq!((a.tx.submitted(), a.tx.completed(), a.tx.lent()), (500, 500, 0));
        assert_eq!(b.receive(&mut stock.pool, 500).len(), 500);
    });
}

#[test]
#[ignore = "needs root"]
fn veth_refuses_zero_copy_and_is_used_natively() {
    in_namespace(|| {
        veth("a", "b", 1);
        let program = Program::attach(&Device::find("a").unwrap(), Mode::ZeroCopy).unwrap();
        assert_eq!(program.mode(), Mode::Copy);
        let [refused, works] = program.notes() else { panic!("{:?}", program.notes()) };
        assert_eq!((refused.step, refused.errno), (Mode::ZeroCopy, Some(libc::EOPNOTSUPP)));
        assert_eq!(refused.meaning, "bind the AF_XDP socket: the driver has no zero-copy");
        assert_eq!((works.step, works.errno), (Mode::Copy, None));
    });
}

#[test]
#[ignore = "needs root"]
fn what_stops_native_mode_is_named_and_generic_mode_receives() {
    in_namespace(|| {
        veth("a", "b", 1);
        ip("link set dev b mtu 9000");
        let mut stock = Stock::new(4096);
        let (mut a, mut b) = (Port::open("a", &mut stock), Port::open("b", &mut stock));
        assert_eq!(a.program.mode(), Mode::Generic);
        let note = &a.program.notes()[1];
        assert_eq!((note.step, note.errno), (Mode::Copy, Some(libc::ERANGE)));
        assert!(note.meaning.contains("3504"), "{note}");
        let sent = vec![packet(0x0800, 200); 40];
        b.send_all(&mut stock.pool, &sent);
        assert!(a.receive(&mut stock.pool, 40).iter().all(|frame| frame.data() == sent[0]));

        ip(
            "link add name e numrxqueues 1 numtxqueues 1 type veth peer name f numrxqueues 4 numtxqueues 4",
        );
        ip("link set dev e up");
        ip("link set dev f up");
        let program = Program::attach(&Device::find("e").unwrap(), Mode::Copy).unwrap();
        assert_eq!(program.notes()[0].errno, Some(libc::ENOSPC));
        assert!(program.notes()[0].meaning.contains("queues"), "{}", program.notes()[0]);
    });
}

#[test]
#[ignore = "needs root"]
fn a_device_is_in_use_until_its_killed_owner_is_gone() {
    in_namespace(|| {
        veth("a", "b", 1);
        let device = Device::find("a").unwrap();
        let owner = Owner::of(Program::attach(&device, Mode::Copy).unwrap());
        let refused = Program::attach(&device, Mode::Copy).unwrap_err();
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
        assert!(refused.to_string().contains("another Weir process"), "{refused}");
        owner.kill();
        Program::attach(&device, Mode::Copy).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_program_that_an_earlier_run_left_is_taken_over_and_nothing_stays_behind() {
    in_namespace(|| {
        veth("a", "b", 1);
        let [a, b] = ["a", "b"].map(|name| Device::find(name).unwrap());
        let spare = Program::attach(&b, Mode::Copy).unwrap();
        for flags in [XdpFlags::DRV_MODE, XdpFlags::SKB_MODE] {
            Xdp::new(spare.as_fd()).attach(a.index() as i32, flags).unwrap();
            let ours = Program::attach(&a, Mode::Copy).unwrap();
            assert_eq!(ours.mode(), Mode::Copy);
            drop(ours);
            // A process that another test starts has a copy of the link until it executes.
            eventually(|| {
                let query = Xdp::new(spare.as_fd());
                query.query_id(a.index() as i32, XdpFlags::NONE).unwrap() == 0
            });
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_program_that_is_not_ours_is_left_alone_and_named() {
    in_namespace(|| {
        veth("a", "b", 1);
        let device = Device::find("a").unwrap();
        let foreign = foreign_program("firewall");
        Xdp::new(foreign.as_fd()).attach(device.index() as i32, XdpFlags::DRV_MODE).unwrap();
        let refused = Program::attach(&device, Mode::ZeroCopy).unwrap_err();
        assert!(matches!(refused, Error::Held { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("\"firewall\""), "{text}");
        assert!(text.contains("`ip link set dev a xdp off`"), "{text}");
        ip("link set dev a xdp off");
        Program::attach(&device, Mode::Copy).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn losses_for_want_of_chunks_and_for_length_are_told_apart() {
    in_namespace(|| {
        veth("a", "b", 1);
        ip("link set dev a mtu 3000");
        ip("link set dev b mtu 3000");
        let mut far = Stock::with_large_frames(2048);
        let mut near = Stock::new(100);
        let mut a = Port::open("a", &mut far);
        let rings = RingSizes { rx: 64, fill: 16, ..RINGS };
        let mut b = Port::open_with("b", &mut near, rings);
        a.send_all(&mut far.pool, &[packet(0x0800, 1793), packet(0x0800, 1792)]);
        assert_eq!(b.receive(&mut near.pool, 1)[0].len(), 1792);
        let statistics = b.rx.statistics().unwrap();
        assert_eq!((statistics.rx_too_long, statistics.rx_fill_ring_empty), (1, 0));

        a.send_all(&mut far.pool, &vec![packet(0x0800, 60); 40]);
        let statistics = b.rx.statistics().unwrap();
        assert_eq!((statistics.rx_too_long, statistics.rx_ring_full), (1, 0));
        assert_eq!(statistics.rx_fill_ring_empty, 40 - 16);
        assert_eq!(b.receive(&mut near.pool, 16).len(), 16);
        assert_eq!(b.program.outcomes().unwrap().to_socket, 42);
    });
}

#[test]
#[ignore = "needs root"]
fn a_frame_longer_than_the_mtu_is_counted_as_refused_and_does_not_stop_the_rest() {
    in_namespace(|| {
        veth("a", "b", 1);
        let mut stock = Stock::new(4096);
        let (mut a, mut b) = (Port::open("a", &mut stock), Port::open("b", &mut stock));
        a.send_all(&mut stock.pool, &[packet(0x0800, 1600), packet(0x0800, 60)]);
        assert_eq!(b.receive(&mut stock.pool, 1)[0].len(), 60);
        assert_eq!((a.tx.counters().refused, a.tx.completed()), (1, 2));
    });
}

#[test]
#[ignore = "needs root"]
fn packets_wait_in_the_ring_while_the_device_is_down() {
    in_namespace(|| {
        veth("a", "b", 1);
        let mut stock = Stock::new(4096);
        let (mut a, mut b) = (Port::open("a", &mut stock), Port::open("b", &mut stock));
        ip("link set dev a down");
        for sent in vec![packet(0x0800, 60); 5] {
            let mut frame = stock.pool.alloc().unwrap();
            frame.write(&sent).unwrap();
            a.tx.send(frame).unwrap();
        }
        assert_eq!(a.tx.flush(&mut stock.pool), 5);
        assert_eq!(a.tx.counters().down, 1);
        ip("link set dev a up");
        assert_eq!(a.tx.flush(&mut stock.pool), 0);
        assert_eq!(b.receive(&mut stock.pool, 5).len(), 5);
    });
}

#[test]
#[ignore = "needs root"]
fn packets_for_a_device_that_was_removed_never_leave() {
    in_namespace(|| {
        veth("a", "b", 1);
        let mut stock = Stock::new(4096);
        let mut a = Port::open("a", &mut stock);
        a.send_all(&mut stock.pool, &vec![packet(0x0800, 100); 40]);
        ip("link del dev a");
        for _ in 0..50 {
            let mut frame = stock.pool.alloc().unwrap();
            frame.write(&packet(0x0800, 100)).unwrap();
            a.tx.send(frame).unwrap();
        }
        assert!(!a.tx.is_gone(), "nobody has asked");
        assert_eq!(a.tx.flush(&mut stock.pool), 50);
        assert!(a.tx.is_gone());
        assert_eq!((a.tx.submitted(), a.tx.completed(), a.tx.lent()), (90, 40, 50));
    });
}

#[test]
#[ignore = "needs root"]
fn packets_for_a_device_without_carrier_are_dropped_and_counted_as_refused() {
    in_namespace(|| {
        veth("a", "b", 1);
        let mut stock = Stock::new(4096);
        let mut a = Port::open("a", &mut stock);
        ip("link set dev b down");
        a.send_all(&mut stock.pool, &vec![packet(0x0800, 100); 50]);
        assert_eq!((a.tx.completed(), a.tx.counters().refused), (50, 50));
        assert_eq!(a.tx.statistics().unwrap().tx_invalid, 0);
    });
}

#[test]
#[ignore = "needs root"]
fn the_router_sees_arp_ip_and_tagged_frames_and_the_kernel_the_rest() {
    in_namespace(|| {
        veth("a", "b", 2);
        let mut stock = Stock::new(4096);
        let mut a = Port::open("a", &mut stock);
        let mut b = Port::open("b", &mut stock);
        let kernel = Kernel::listen(b.program.device());
        let for_router = [0x0806, 0x0800, 0x86dd, 0x8100, 0x88a8];
        let mut sent: Vec<Vec<u8>> = for_router.iter().map(|kind| packet(*kind, 60)).collect();
        sent.push(packet(0x88cc, 60)); // LLDP
        sent[5][..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x0e]);
        sent.push(packet(38, 60)); // STP: a length in place of a protocol
        sent[6][..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
        sent.push(packet(0x8847, 60)); // MPLS
        a.send_all(&mut stock.pool, &sent);

        let received = b.receive(&mut stock.pool, for_router.len());
        assert!(received.iter().zip(&sent).all(|(frame, sent)| frame.data() == sent));
        assert_eq!(kernel.receive(3), sent[5..]);
        // Queue 1 has no socket.
        let mut other = Port::unconnected(&a.program, 1, &mut stock, RINGS);
        other.send_all(&mut stock.pool, &[packet(0x0800, 99)]);
        assert_eq!(kernel.receive(1), [packet(0x0800, 99)]);

        let outcomes = b.program.outcomes().unwrap();
        assert_eq!(outcomes.to_socket, 5);
        assert_eq!((outcomes.pass_link_local, outcomes.pass_other_protocol), (2, 1));
        assert_eq!((outcomes.pass_no_socket, outcomes.pass_runt), (1, 0));
    });
}

#[test]
#[ignore = "needs root"]
fn closing_sockets_recovers_every_frame_and_the_queue_can_be_opened_again() {
    in_namespace(|| {
        veth("a", "b", 1);
        let mut stock = Stock::new(4096);
        let mut a = Port::open("a", &mut stock);
        let b = Port::open("b", &mut stock);
        // Some in the rx ring of b, and some stuck in the tx ring of a.
        a.send_all(&mut stock.pool, &vec![packet(0x0800, 60); 50]);
        ip("link set dev a down");
        for _ in 0..20 {
            let mut frame = stock.pool.alloc().unwrap();
            frame.write(&packet(0x0800, 60)).unwrap();
            a.tx.send(frame).unwrap();
        }
        a.tx.flush(&mut stock.pool);
        assert_eq!(a.tx.lent(), 20);

        let mut all: Vec<Frame> = Socket::join(a.rx, a.tx).unwrap().close();
        assert_eq!(all.len(), 1024 + 20);
        drop(b.tx);
        assert_eq!(stock.region.reclaim().count(), 0);
        drop(b.rx);
        all.extend(stock.region.reclaim());
        all.extend(std::iter::from_fn(|| stock.pool.alloc()));
        let mut indices: Vec<u32> = all.iter().map(Frame::index).collect();
        indices.sort_unstable();
        assert_eq!(indices, (0..4096).collect::<Vec<_>>());

        let umem = Umem::new(&stock.region, false);
        for name in ["a", "b"] {
            let device = Device::find(name).unwrap();
            drop(Socket::open(&umem, &device, 0, RINGS).unwrap());
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_queue_that_is_not_there_or_taken_is_refused_in_words() {
    in_namespace(|| {
        veth("a", "b", 1);
        let stock = Stock::new(256);
        let device = Device::find("a").unwrap();
        let refused = Socket::open(&stock.umem, &device, 7, RINGS).unwrap_err().to_string();
        assert!(refused.starts_with("bind the AF_XDP socket on a queue 7"), "{refused}");
        assert!(refused.ends_with("the device has no such queue"), "{refused}");
        let program = Program::attach(&device, Mode::Copy).unwrap();
        let socket = Socket::open(&stock.umem, &device, 0, RINGS).unwrap();
        assert!(program.connect(1, &socket).unwrap_err().to_string().contains("fewer queues"));

        let other = Stock::new(256);
        let refused = Socket::open(&other.umem, &device, 0, RINGS).unwrap_err().to_string();
        assert!(refused.contains("another process has an AF_XDP socket"), "{refused}");
    });
}
