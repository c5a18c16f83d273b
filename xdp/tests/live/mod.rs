//! Live frames over veth, each test in a network namespace of its own.

use std::process::Command;
use std::sync::Arc;

use weir_xdp::{Device, Mode, Program, Socket};

use crate::namespace::{
    Kernel, Port, RINGS, Stock, in_namespace, ip, packet, veth, without_capabilities,
};

/// A cable with a port at each end, of which the first sends live frames from so many.
fn cable(frames: u32) -> [(Stock, Port); 2] {
    veth("a", "b", 1);
    let (mut near, mut far) = (Stock::for_live_frames(frames), Stock::new(4096));
    let b = Port::open("b", &mut far);
    let a = Port::open_live("a", &mut near);
    [(near, a), (far, b)]
}

/// A kernel host, which takes live frames with GRO only.
fn gro(device: &str, switch: &str) {
    let status = Command::new("ethtool").args(["-K", device, "gro", switch]).status().unwrap();
    assert!(status.success(), "ethtool -K {device} gro {switch}");
}

/// Has a thread take what comes to a device, in the place of whoever sends it.
fn threaded(device: &str) {
    // What is in /sys is of the namespace in which it was mounted.
    let set = format!("mount -t sysfs none /sys && echo 1 >/sys/class/net/{device}/threaded");
    let status = Command::new("unshare").args(["-m", "sh", "-c", &set]).status().unwrap();
    assert!(status.success(), "{set}");
}

#[test]
#[ignore = "needs root"]
fn packets_leave_as_live_frames_byte_for_byte_and_in_order() {
    in_namespace(|| {
        let mut random = weir_seed::rng();
        let [(mut near, mut a), (mut far, mut b)] = cable(4096);
        let mut lives = 0;
        for round in 0..400 {
            let count = random.usize(1..200);
            let sent: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let mut packet = packet(0x0800, random.usize(14..=1514));
                    packet[14..].fill_with(|| random.u8(..));
                    packet
                })
                .collect();
            a.send_all(&mut near.pool, &sent);
            lives += count as u64;
            let received = b.receive(&mut far.pool, count);
            for (frame, expected) in received.iter().zip(&sent) {
                assert_eq!(frame.data(), expected.as_slice(), "round {round}");
            }
            far.pool.adopt(received);
        }
        let counters = a.tx.live_counters();
        assert_eq!((counters.packets, counters.failed, counters.invalid), (lives, 0, 0));
        assert_eq!((a.tx.completed(), a.tx.lent()), (a.tx.submitted(), 0));
        let state = a.program.watch_live().unwrap().unwrap();
        assert_eq!((state.open, state.taken), (true, Some(lives)));
    });
}

#[test]
#[ignore = "needs root"]
fn live_frames_come_in_order_to_a_host_that_is_late() {
    in_namespace(|| {
        veth("a", "host", 1);
        let host = Kernel::listen(&Device::find("host").unwrap());
        gro("host", "on");
        let mut stock = Stock::for_live_frames(4096);
        let mut a = Port::open_live("a", &mut stock);
        threaded("host");
        for round in 0..500_u32 {
            let numbered = |number: u8| {
                let mut packet = packet(0x88b5, 60);
                packet[14..19].copy_from_slice(&[&round.to_be_bytes()[..], &[number]].concat());
                packet
            };
            let sent: Vec<_> = (0..21).map(numbered).collect();
            a.send_all(&mut stock.pool, &sent[..18]);
            a.send_all(&mut stock.pool, &sent[18..]);
            let received: Vec<u8> = host.receive(21).iter().map(|packet| packet[18]).collect();
            assert_eq!(received, (0..21).collect::<Vec<_>>(), "round {round}");
        }
        assert_eq!((a.tx.live_counters().packets, a.tx.completed()), (500 * 21, 500 * 21));
    });
}

#[test]
#[ignore = "needs root"]
fn frames_that_come_in_where_live_frames_go_out_are_seen_as_before() {
    in_namespace(|| {
        let [(mut near, mut a), (mut far, mut b)] = cable(4096);
        let kernel = Kernel::listen(a.program.device());
        let lldp = packet(0x88cc, 60);
        b.send_all(&mut far.pool, &[packet(0x0800, 700), lldp.clone(), packet(0x0806, 60)]);
        let received = a.receive(&mut near.pool, 2);
        assert_eq!(
            (received[0].data(), received[1].data()),
            (&*packet(0x0800, 700), &*packet(0x0806, 60))
        );
        assert_eq!(kernel.receive(1), [lldp]);
        let outcomes = a.program.outcomes().unwrap();
        assert_eq!((outcomes.to_socket, outcomes.pass_other_protocol), (2, 1));
        // What came in leaves from where it lies.
        for frame in received {
            a.tx.send(frame).unwrap();
        }
        assert_eq!((a.tx.flush(&mut near.pool), a.tx.live_counters().runs), (0, 1));
        assert_eq!(b.receive(&mut far.pool, 2)[0].data(), packet(0x0800, 700));
    });
}

#[test]
#[ignore = "needs root"]
fn a_kernel_host_takes_live_frames_with_gro_alone_and_what_it_does_not_take_is_known() {
    in_namespace(|| {
        veth("a", "host", 1);
        let host = Kernel::listen(&Device::find("host").unwrap());
        let attach = || Program::attach(&Device::find("a").unwrap(), Mode::Copy).unwrap();
        assert!(!attach().takes_live_frames().unwrap());
        gro("host", "on");
        assert!(attach().takes_live_frames().unwrap());

        let mut stock = Stock::for_live_frames(4096);
        let mut a = Port::open_live("a", &mut stock);
        let burst = vec![packet(0x88b5, 60); 40];
        a.send_all(&mut stock.pool, &burst);
        assert_eq!(host.receive(40), burst);
        gro("host", "off");
        // Nobody has noticed, and the kernel says that all is well.
        a.send_all(&mut stock.pool, &burst);
        assert_eq!((a.tx.completed(), a.tx.live_counters().packets), (80, 80));
        let state = a.program.watch_live().unwrap().unwrap();
        assert_eq!((state.open, state.taken), (false, Some(40)));
        a.send_all(&mut stock.pool, &burst);
        assert_eq!(host.receive(40), burst);
        assert_eq!((a.tx.completed(), a.tx.live_counters().packets), (120, 80));
        gro("host", "on");
        assert!(a.program.watch_live().unwrap().unwrap().open);
        a.send_all(&mut stock.pool, &burst);
        assert_eq!(a.tx.live_counters().packets, 120);
    });
}

#[test]
#[ignore = "needs root"]
fn live_frames_wait_while_the_device_is_down_and_end_with_it() {
    in_namespace(|| {
        let [(mut near, mut a), (mut far, mut b)] = cable(4096);
        let mut send = |a: &mut Port| {
            for _ in 0..40 {
                let mut frame = near.pool.alloc().unwrap();
                frame.write(&packet(0x0800, 100)).unwrap();
                a.tx.send(frame).unwrap();
            }
            a.tx.flush(&mut near.pool)
        };
        ip("link set dev a down");
        assert_eq!((send(&mut a), a.tx.counters().down), (40, 1));
        ip("link set dev a up");
        assert_eq!((send(&mut a), a.tx.live_counters().packets), (0, 80));
        assert_eq!(b.receive(&mut far.pool, 80).len(), 80);
        ip("link del dev a");
        assert_eq!(send(&mut a), 40);
        assert!(a.tx.is_gone());
        assert_eq!((a.tx.submitted(), a.tx.completed()), (120, 80));
        assert!(a.program.watch_live().is_err());
    });
}

#[test]
#[ignore = "needs root"]
fn packets_that_find_no_room_at_the_other_end_are_not_taken() {
    in_namespace(|| {
        let [(mut near, mut a), _far_end] = cable(4096);
        ip("link set dev b down");
        a.send_all(&mut near.pool, &vec![packet(0x0800, 60); 100]);
        assert_eq!(a.program.watch_live().unwrap().unwrap().taken, Some(0));
        ip("link set dev b up");
        a.send_all(&mut near.pool, &vec![packet(0x0800, 60); 100]);
        assert_eq!(a.program.watch_live().unwrap().unwrap().taken, Some(100));
        // Longer than the other end takes.
        a.send_all(&mut near.pool, &[packet(0x0800, 1600), packet(0x0800, 60)]);
        assert_eq!(a.program.watch_live().unwrap().unwrap().taken, Some(101));
        assert_eq!((a.tx.completed(), a.tx.live_counters().invalid), (202, 0));
    });
}

#[test]
#[ignore = "needs root"]
fn each_queue_sends_its_own_packets_and_none_of_the_other() {
    in_namespace(|| {
        const QUEUES: u32 = 4;
        veth("a", "b", QUEUES);
        let b = Device::find("b").unwrap();
        let _takes = Program::attach(&b, Mode::Copy).unwrap();
        let kernel = Kernel::listen(&b);
        let mut stock = Stock::for_live_frames(8192);
        let mut program = Program::attach(&Device::find("a").unwrap(), Mode::Copy).unwrap();
        let ways = program.go_live(stock.live.as_ref().unwrap(), QUEUES).unwrap();
        let program = Arc::new(program);
        let mut ports: Vec<Port> = (0..QUEUES)
            .map(|queue| Port::unconnected(&program, queue, &mut stock, RINGS))
            .collect();
        for (port, live) in ports.iter_mut().zip(ways) {
            port.tx.set_live(live).unwrap();
        }
        let mut all = 0;
        for round in 0..20 {
            for (queue, port) in ports.iter_mut().enumerate() {
                let one = |n: usize| {
                    let mut packet = packet(0x88b5, 60 + n);
                    packet[14..17].copy_from_slice(&[round, queue as u8, n as u8]);
                    packet
                };
                let burst: Vec<_> = (0..5).map(one).collect();
                port.send_all(&mut stock.pool, &burst);
                assert_eq!(kernel.receive(5), burst);
                all += 5;
            }
        }
        assert_eq!(program.watch_live().unwrap().unwrap().taken, Some(all));
    });
}

#[test]
#[ignore = "needs root"]
fn live_frames_are_sent_without_any_capability() {
    in_namespace(|| {
        let [(mut near, mut a), (mut far, mut b)] = cable(4096);
        let device = a.program.device().clone();
        without_capabilities(|| {
            assert!(Socket::open(&near.umem, &device, 0, RINGS).is_err(), "it may do nothing else");
            a.send_all(&mut near.pool, &vec![packet(0x0800, 60); 50]);
        });
        assert_eq!((b.receive(&mut far.pool, 50).len(), a.tx.live_counters().packets), (50, 50));
    });
}

#[test]
#[ignore = "needs root"]
fn packets_leave_from_wherever_in_a_large_memory_they_lie() {
    in_namespace(|| {
        // 700 MiB: the program reaches what is beyond 512 in another way.
        const FRAMES: u32 = 700 << 9;
        let [(mut near, mut a), (mut far, mut b)] = cable(FRAMES);
        let mut random = weir_seed::rng();
        let edges = [0, (512 << 9) - 3, (512 << 9) - 2, (512 << 9) - 1, 512 << 9, FRAMES - 1];
        let mut all: Vec<_> = std::iter::from_fn(|| near.pool.alloc()).collect();
        random.shuffle(&mut all);
        let (mut chosen, mut others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|frame| edges.contains(&frame.index()));
        assert!(chosen.len() >= edges.len() - 1, "but for what is lent to receive");
        chosen.extend(others.drain(..60));
        let mut sent = Vec::new();
        for mut frame in chosen {
            let mut packet = packet(0x0800, random.usize(14..=1514));
            packet[14..].fill_with(|| random.u8(..));
            frame.write(&packet).unwrap();
            a.tx.send(frame).unwrap();
            sent.push(packet);
        }
        assert_eq!(a.tx.flush(&mut near.pool), 0);
        let received = b.receive(&mut far.pool, sent.len());
        assert!(received.iter().zip(&sent).all(|(frame, sent)| frame.data() == sent));
        assert_eq!(a.tx.live_counters().packets, sent.len() as u64);
    });
}
