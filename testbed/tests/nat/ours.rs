//! Our NAT, with a table of translations.

use std::collections::HashMap;

use weir_dataplane::nf::nat::{Config, Nat, Reason, Rules, Translation, Verdict, flow_key};
use weir_state_transfer::merge::Replica;
use weir_state_transfer::{FlowKey, Nanos, SteeringHash};

use crate::frames::meta;

/// No time passes.
const NOW: Nanos = Nanos(1);

pub(crate) struct Ours {
    nat: Nat,
    /// By both names.
    translations: HashMap<FlowKey, Translation>,
}

impl Ours {
    pub(crate) fn new(pick_up: bool, rules: Rules) -> Self {
        let mut config = Config { rules, ..Config::default() };
        config.tracking.pick_up = pick_up;
        let replica = Replica { instance: 1, incarnation: 1 };
        let nat = Nat::new(config, &SteeringHash::new(0x6d5a), replica).unwrap();
        Self { nat, translations: HashMap::new() }
    }

    /// What becomes of a frame. The translation is made a chunk and read again behind it.
    pub(crate) fn pass(&mut self, frame: &[u8]) -> Result<Vec<u8>, Reason> {
        let (mut frame, mut meta) = (frame.to_vec(), meta(frame).unwrap());
        meta.key = flow_key(&frame, &meta);
        let mut state = self.translations.get(&meta.key.both_ways()).cloned();
        if let Some(known) = &state {
            known.keys().iter().for_each(|key| drop(self.translations.remove(key)));
        }
        let taken = |key: &FlowKey| self.translations.contains_key(key);
        let verdict = self.nat.translate(&mut frame, &mut meta, &mut state, taken, NOW);
        if let Some(known) = state {
            let known = Translation::from_chunk(&known.to_chunk(NOW), NOW).unwrap();
            for key in known.keys() {
                self.translations.insert(key, known.clone());
            }
        }
        match verdict {
            Verdict::Pass | Verdict::Translate => Ok(frame),
            Verdict::Drop(reason) => Err(reason),
        }
    }
}
