//! Instances that share the buckets, and hand them to each other while flows go on.

use std::collections::HashMap;

use weir_state_transfer::BUCKETS;

use super::southbound::all_of;
use super::*;

const INSTANCES: usize = 3;
const POOL: [Ipv4Addr; 2] = [EXTERNAL, Ipv4Addr::new(192, 0, 2, 2)];

/// Instances, and which of them has each bucket.
struct World {
    rules: Rules,
    hash: SteeringHash,
    owners: Vec<usize>,
    instances: Vec<Instance>,
    /// How flows are steered: as it should be, or in a way that has to go wrong.
    steering: fn(&Rules, &FlowKey) -> FlowKey,
}

impl World {
    fn new(rng: &mut Rng, steering: fn(&Rules, &FlowKey) -> FlowKey) -> Self {
        let hash = random_hash(rng);
        let config = config(vec![source_rule(&POOL)], vec![web()]);
        let instance = |n| Instance::new(config.clone(), &hash, n as u32);
        let instances = (0..INSTANCES).map(instance).collect();
        let owners = (0..BUCKETS).map(|_| rng.usize(..INSTANCES)).collect();
        Self { rules: config.rules.clone(), hash, owners, instances, steering }
    }

    /// The owner of a packet's flow, by what a steerer sees of it.
    fn owner(&self, key: &FlowKey) -> usize {
        self.owners[self.hash.bucket(&(self.steering)(&self.rules, key)).index()]
    }

    fn sends(&mut self, frame: &[u8]) -> Result<FlowKey, Reason> {
        self.arrives(frame).map(|arrived| meta_of(&arrived).key)
    }

    /// A frame as it arrives.
    fn arrives(&mut self, frame: &[u8]) -> Result<Vec<u8>, Reason> {
        let owner = self.owner(&meta_of(frame).key);
        let mut frame = frame.to_vec();
        match self.instances[owner].translate(&mut frame, NOW) {
            Verdict::Drop(reason) => Err(reason),
            Verdict::Pass | Verdict::Translate => Ok(frame),
        }
    }

    /// Gives a bucket to another instance, with all translations in it, as bytes. The names that
    /// the other has given out already.
    fn hand_over(&mut self, bucket: usize, to: usize) -> Vec<String> {
        let (from, mut twice) = (self.owners[bucket], Vec::new());
        if from == to {
            return twice;
        }
        let translations = &self.instances[from].table.translations;
        let is_in =
            |key: &FlowKey| self.hash.bucket(&(self.steering)(&self.rules, key)).index() == bucket;
        let moved: Vec<FlowKey> = translations
            .iter()
            .filter(|(_, known)| is_in(known.original()))
            .map(|(key, _)| *key)
            .collect();
        for key in moved {
            let known = self.instances[from].table.remove(&key).expect("it is there");
            let there = Translation::from_chunk(&known.to_chunk(NOW), NOW).expect("its own");
            if !self.instances[to].table.insert(there) {
                twice.push(format!("{} and another are {}", known.original(), known.translated()));
            }
        }
        self.owners[bucket] = to;
        twice
    }
}

/// A first packet of any kind of flow; two hosts and few remote ends, so that ports are short.
fn first(rng: &mut Rng) -> Vec<u8> {
    let inside = (Ipv4Addr::new(10, 0, 0, rng.u8(..)), rng.u16(1..));
    let outside = (Ipv4Addr::new(198, 51, 100, rng.u8(..4)), 80);
    match rng.u8(..8) {
        0..3 => udp(inside, outside),
        3..5 => syn(inside, outside),
        5 => echo(inside.0, outside.0, true, rng.u16(..3)),
        6 => syn((outside.0, inside.1), (EXTERNAL, rng.u16(80..90))),
        7 if rng.bool() => syn((SERVER, rng.u16(8080..8090)), (outside.0, inside.1)),
        _ => syn(inside, (EXTERNAL, rng.u16(80..90))),
    }
}

/// What a router says that can not deliver a packet.
fn error_about(frame: &[u8]) -> Vec<u8> {
    let IpAddr::V4(sender) = meta_of(frame).key.src() else { panic!("{frame:02x?}") };
    samples::icmp4(Ipv4Addr::new(203, 0, 113, 1), sender, 3, &frame[14..])
}

/// Lets flows begin, be answered and go on while buckets change hands; what went wrong.
fn run(rng: &mut Rng, steering: fn(&Rules, &FlowKey) -> FlowKey) -> (usize, Vec<String>) {
    let mut world = World::new(rng, steering);
    // As the sender knows them, with the first packet as the receiver got it.
    let mut flows: Vec<(FlowKey, Vec<u8>)> = Vec::new();
    let mut seen: HashMap<FlowKey, FlowKey> = HashMap::new();
    let mut wrong = Vec::new();
    for _ in 0..12_000 {
        match rng.u8(..4) {
            0 => wrong.extend(world.hand_over(rng.usize(..BUCKETS), rng.usize(..INSTANCES))),
            1 => {
                let Some((original, arrived)) = rng.choice(&flows) else { continue };
                let translated = meta_of(arrived).key;
                let answer = if rng.bool() { answer(&translated) } else { error_about(arrived) };
                let back = world.sends(&answer);
                if back != Ok(original.reversed()) {
                    wrong.push(format!("{translated} answered: {back:?}, not to {original}"));
                }
            }
            _ => {
                let frame = first(rng);
                let original = meta_of(&frame).key;
                // Else nothing was left, or its connection has begun and is further.
                if let Ok(arrived) = world.arrives(&frame) {
                    let translated = meta_of(&arrived).key;
                    let other = *seen.entry(translated).or_insert(original);
                    if other != original {
                        wrong.push(format!("{other} and {original} are {translated}"));
                    }
                    flows.push((original, arrived));
                }
            }
        }
    }
    (flows.len(), wrong)
}

#[test]
fn instances_never_collide_and_every_answer_finds_its_translation_wherever_it_is() {
    let mut rng = weir_seed::rng();
    let (count, wrong) = run(&mut rng, Rules::steering_key);
    assert!(count > 4_000, "{count}");
    assert!(wrong.is_empty(), "{} of {count}: {:?}", wrong.len(), &wrong[..wrong.len().min(3)]);
}

/// The negative control: by their own keys, answers of services and of echoes go astray, and
/// instances give out one identifier twice.
#[test]
fn flows_that_are_steered_by_their_own_keys_go_astray() {
    let mut rng = weir_seed::rng();
    let (count, wrong) = run(&mut rng, |_, key| *key);
    let collisions = wrong.iter().filter(|what| what.contains(" and ")).count();
    let astray = wrong.len() - collisions;
    assert!(astray > 50 && collisions > 0, "{astray}, {collisions} of {count}");
}

/// Flows that all want one port, so that they get others of its bucket. In the negative control
/// instances choose by another hash than flows are steered by.
#[test]
fn ports_that_do_not_keep_the_bucket_lead_astray() {
    let mut rng = weir_seed::rng();
    for (other_hash, expected) in [(false, 0..1), (true, 200..1_000)] {
        let mut world = World::new(&mut rng, Rules::steering_key);
        if other_hash {
            // One key in some hundred leaves the same ports in a bucket.
            let first: Vec<_> = world.hash.neutral_words().collect();
            while world.hash.neutral_words().eq(first.iter().copied()) {
                world.hash = random_hash(&mut rng);
            }
        }
        let mut astray = 0;
        for n in 0..1_000_u16 {
            let host = Ipv4Addr::new(10, 0, 3, (n % 10) as u8);
            let port = (4_000 + n / 10) ^ u16::from(host.octets()[3]);
            let sent = world.sends(&udp((host, port), (OUTSIDE, 53))).expect("it goes on");
            astray += usize::from(world.sends(&answer(&sent)).is_err());
        }
        assert!(expected.contains(&astray), "{astray}");
    }
}

#[test]
fn what_instances_count_adds_up_when_they_tell_each_other() {
    let mut rng = weir_seed::rng();
    let mut world = World::new(&mut rng, Rules::steering_key);
    for port in 1_024..2_024 {
        world.sends(&udp((INSIDE, port), (OUTSIDE, 53))).expect("it goes on");
    }
    let copies: Vec<_> = world.instances.iter().map(|instance| all_of(&instance.nat)).collect();
    let nat = &mut world.instances[0].nat;
    for (totals, usages) in copies.iter().chain(&copies) {
        totals.iter().for_each(|chunk| nat.put_all_flows(chunk).expect("its own"));
        usages.iter().for_each(|chunk| nat.put_multi_flow(chunk).expect("its own"));
    }
    let (ended, (_, usages)) = (Life::of_one(replica(1)), &copies[1]);
    usages.iter().for_each(|chunk| nat.inherit(chunk, replica(1)).expect("its own"));
    nat.take_over(ended);
    // What comes late is among what was taken over.
    usages.iter().for_each(|chunk| nat.put_multi_flow(chunk).expect("its own"));
    let open: i128 = nat.usages().map(|(_, usage)| usage.open.value()).sum();
    let totals = nat.totals();
    assert_eq!((open, totals.begun.value(), totals.translated.value()), (1_000, 1_000, 1_000));
    // Also where all has been forgotten since.
    let ids: Vec<_> = usages.iter().map(|chunk| chunk.id.clone()).collect();
    assert_eq!(nat.del_multi_flow(&ids), ids.len());
    usages.iter().for_each(|chunk| nat.put_multi_flow(chunk).expect("its own"));
    assert!(nat.usages().all(|(_, usage)| usage.open.value() == 0));
}
