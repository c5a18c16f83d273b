//! Chunks come back as they were, and whatever is not one is refused.

use std::net::IpAddr;

use fastrand::Rng;

use super::codec::ChunkError;
use super::*;
use crate::flow_id::{End, Ends, Extra};
use crate::flow_key::FlowKey;
use crate::id::ServiceId;
use crate::prefix::Prefix;

fn address(rng: &mut Rng, v4: bool) -> IpAddr {
    if v4 { rng.u32(..).to_be_bytes().into() } else { rng.u128(..).to_be_bytes().into() }
}

fn prefix(rng: &mut Rng) -> Prefix {
    let v4 = rng.bool();
    let whole = Prefix::host(address(rng, v4));
    let length = rng.u8(..=if v4 { 32 } else { 128 });
    // The address without the bits that are not of the network.
    let bits = match whole.address() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
    };
    Prefix::new(bits, length).expect("no bits beyond its length")
}

fn end(rng: &mut Rng) -> End {
    End { prefix: rng.bool().then(|| prefix(rng)), port: rng.bool().then(|| rng.u16(..)) }
}

fn flow_id(rng: &mut Rng) -> FlowId {
    let v4 = rng.bool();
    let (src, dst) = (address(rng, v4), address(rng, v4));
    let ports = (rng.u16(..), rng.u16(..));
    let protocol = rng.u8(..);
    let id = match rng.u8(..4) {
        0 => FlowId::default(),
        1 => FlowId::host(src, ServiceId(rng.u16(..))),
        2 => {
            let key = FlowKey::new(src, dst, ports, protocol, ServiceId(rng.u16(..)));
            FlowId::flow(&key.expect("of one family"))
        }
        _ => {
            let ends = match rng.u8(..3) {
                0 => Ends::Any,
                1 => Ends::Host(prefix(rng)),
                _ => Ends::Pair { src: end(rng), dst: end(rng) },
            };
            let service = rng.bool().then(|| ServiceId(rng.u16(..)));
            FlowId::new(ends, rng.bool().then_some(protocol), service)
        }
    };
    (0..rng.usize(..=4)).fold(id, |id, n| {
        let value: String = (0..rng.usize(..40)).map(|_| rng.alphabetic()).collect();
        id.with(Extra::new(&format!("x.{n}"), &value).expect("a field")).expect("room")
    })
}

fn chunk(rng: &mut Rng) -> Chunk {
    let body_length = rng.usize(..300);
    Chunk {
        id: flow_id(rng),
        scope: Scope::ALL[rng.usize(..3)],
        schema: Schema { kind: rng.u16(..), revision: rng.u16(..) },
        version: rng.u64(..),
        age: Duration::from_nanos(rng.u64(..1 << 62)),
        time_left: rng.bool().then(|| Duration::from_nanos(rng.u64(..1 << 62))),
        body: (0..body_length).map(|_| rng.u8(..)).collect(),
    }
}

fn small() -> Chunk {
    Chunk {
        id: FlowId::default(),
        scope: Scope::AllFlows,
        schema: Schema { kind: 1, revision: 2 },
        version: 3,
        age: Duration::from_nanos(4),
        time_left: None,
        body: b"body".to_vec(),
    }
}

#[test]
fn random_chunks_come_back_as_they_were() {
    let mut rng = weir_seed::rng();
    for _ in 0..20_000 {
        let chunk = chunk(&mut rng);
        let bytes = chunk.encode().expect("within bounds");
        assert!(bytes.len() <= CHUNK_MAX);
        assert_eq!(Chunk::decode(&bytes), Ok(chunk));
    }
}

#[test]
fn the_bytes_are_as_documented() {
    let expected = [
        b"WEIR".as_slice(),
        &[1, 3, 1, 0],
        &[0, 1, 0, 2],
        &[0, 0, 0, 0, 0, 0, 0, 3],
        &[0, 0, 0, 0, 0, 0, 0, 4],
        &[0xff; 8],
        &[0, 2, 0, 0],
        &[0, 0, 0, 4],
        &[0, 0],
        b"body",
    ]
    .concat();
    let checksum = crc32c::crc32c(&expected).to_be_bytes();
    assert_eq!(small().encode().expect("small"), [&expected[..], &checksum].concat());
}

/// CRC-32C finds every change of one byte, and every cut is one of a length.
#[test]
fn whatever_is_changed_or_cut_off_is_noticed() {
    let mut rng = weir_seed::rng();
    for _ in 0..200 {
        let bytes = chunk(&mut rng).encode().expect("within bounds");
        for length in 0..bytes.len() {
            let error = Chunk::decode(&bytes[..length]).expect_err("cut off");
            assert_eq!(error, ChunkError::Truncated { length });
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= rng.u8(1..);
            assert!(Chunk::decode(&changed).is_err(), "byte {place}");
        }
        let longer = [&bytes[..], &[0; 3]].concat();
        assert_eq!(Chunk::decode(&longer), Err(ChunkError::TooLong { excess: 3 }));
    }
}

/// A peer that lies computes the right checksum over what it lies about.
#[test]
fn fields_that_can_not_be_are_refused_even_with_the_right_checksum() {
    let forged = |place: usize, bytes: &[u8]| {
        let mut forged = small().encode().expect("small");
        forged[place..place + bytes.len()].copy_from_slice(bytes);
        let end = forged.len() - 4;
        let checksum = crc32c::crc32c(&forged[..end]).to_be_bytes();
        forged[end..].copy_from_slice(&checksum);
        Chunk::decode(&forged).expect_err("forged").to_string()
    };
    assert_eq!(forged(0, b"weir"), "the bytes do not begin like a chunk");
    assert_eq!(forged(4, &[9]), "the chunk is of format 9, and only format 1 is known");
    assert_eq!(forged(5, &[0]), "the scope of the chunk is none that there is");
    for stage in [0, 2, 3, 4] {
        assert_eq!(forged(6, &[stage]), "the stage of the chunk is none that there is");
    }
    assert_eq!(forged(7, &[1]), "the reserved byte of the chunk is none that there is");
    assert_eq!(
        forged(40, &[0xff; 4]),
        "the chunk has 4294967295 bytes of state, and 1048576 are the most"
    );
    assert_eq!(forged(38, &[0, 1]), "the reserved field of the chunk is none that there is");
    assert_eq!(
        forged(36, &[0xff, 0xff]),
        format!(
            "the chunk has 65535 bytes of flow id, and {} are the most",
            crate::flow_id::FLOW_ID_MAX
        )
    );
    // A field of the flow id that there is not, and a host with two ends.
    assert_eq!(forged(44, &[0xf0, 0]), "the flow id of the chunk is none that there is");
    assert_eq!(forged(44, &[0, 3]), "the flow id of the chunk is none that there is");
}

#[test]
fn what_is_too_large_is_refused_before_it_is_sent() {
    let body = vec![0; BODY_MAX];
    let chunk = Chunk { body, ..small() };
    assert!(Chunk::decode(&chunk.encode().expect("the most")).is_ok());
    let chunk = Chunk { body: vec![0; BODY_MAX + 1], ..small() };
    assert!(matches!(chunk.encode(), Err(ChunkError::TooLarge { .. })));
}

#[test]
fn random_bytes_are_no_chunk_and_never_a_panic() {
    let mut rng = weir_seed::rng();
    for _ in 0..50_000 {
        let length = rng.usize(..200);
        let mut bytes: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
        if rng.bool() {
            // As far into the decoder as lengths that fit and a right checksum lead.
            let mut whole = small().encode().expect("small");
            let place = rng.usize(44..whole.len() - 4);
            whole[place] = rng.u8(..);
            let id_length = rng.u8(..7);
            (whole[37], whole[43]) = (id_length, 6 - id_length);
            let end = whole.len() - 4;
            let checksum = crc32c::crc32c(&whole[..end]).to_be_bytes();
            whole[end..].copy_from_slice(&checksum);
            bytes = whole;
        }
        if let Ok(chunk) = Chunk::decode(&bytes) {
            assert_eq!(chunk.encode().as_deref(), Ok(&bytes[..]), "one form only");
        }
    }
}

#[test]
fn a_flow_id_of_a_host_is_that_host_again_and_no_other_id_is() {
    let mut rng = Rng::with_seed(7);
    for v4 in [true, false] {
        let host = (address(&mut rng, v4), ServiceId(rng.u16(..)));
        let id = FlowId::host(host.0, host.1);
        assert_eq!(id.as_host(), Some(host));
        let network = Ends::Host(Prefix::new([10, 0, 0, 0].into(), 8).expect("a network"));
        let extra = Extra::new("http.host", "a").expect("a field");
        let service = Some(host.1);
        let others = [
            FlowId::new(id.ends.clone(), Some(6), service),
            FlowId::new(id.ends.clone(), None, None),
            FlowId::new(network, None, service),
            FlowId::new(Ends::Any, None, service),
            id.with(extra).expect("one field"),
        ];
        assert!(others.iter().all(|other| other.as_host().is_none()), "{others:?}");
    }
}

#[test]
fn a_flow_id_of_a_flow_is_that_flow_again() {
    let mut rng = weir_seed::rng();
    for _ in 0..2_000 {
        let v4 = rng.bool();
        let protocol = [1, 6, 17, 58, 132, 47][rng.usize(..6)];
        let ports = match protocol {
            // An echo may be named by its identifier.
            1 | 58 if rng.bool() => [rng.u16(..); 2].into(),
            number if crate::protocol::has_ports(number) => (rng.u16(..), rng.u16(..)),
            _ => (0, 0),
        };
        let ends = (address(&mut rng, v4), address(&mut rng, v4));
        let key = FlowKey::new(ends.0, ends.1, ports, protocol, ServiceId(rng.u16(..)));
        let key = key.expect("of one family");
        assert_eq!(FlowId::flow(&key).key(), Some(key));
    }
    // There is one id for each flow, and one flow for each id.
    let host = |port| End { prefix: Some("10.0.0.1".parse().expect("a host")), port };
    for (protocol, src, dst) in [
        (1, Some(0), Some(0)),
        (1, Some(7), Some(8)),
        (58, Some(7), None),
        (47, Some(7), Some(7)),
        (6, None, Some(7)),
    ] {
        let ends = Ends::Pair { src: host(src), dst: host(dst) };
        assert_eq!(FlowId::new(ends, Some(protocol), Some(ServiceId(0))).key(), None, "{protocol}");
    }
}
