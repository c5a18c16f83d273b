//! The values of messages: scopes, extents, actions, flow ids, events and refusals.

use weir_api::nf::v1 as api;
use weir_api::refusal::cut;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::{ChunkError, Scope};
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::MergeRule;
use weir_state_transfer::southbound::{Action, Cause, Event, PutError, SubscriptionId};
use weir_state_transfer::time::Nanos;
use weir_state_transfer::wire::{Reader, WireError, Writer};

use crate::description::Malformed;

/// Gets at one time: each may have a piece and its messages wait for the reader.
pub(crate) const GETS_MAX: usize = 4;
/// Flow ids of one request at most.
pub const IDS_MAX: usize = 256;
/// Bytes of a packet in its event at most.
pub(crate) const SNAP_MAX: u32 = 65_535;
/// Bytes of what a network function says at most, such as the message of a refusal.
pub(crate) const SAID_MAX: usize = 1 << 10;

/// A scope as messages have it.
pub fn scope_message(scope: Scope) -> api::Scope {
    match scope {
        Scope::PerFlow => api::Scope::PerFlow,
        Scope::MultiFlow => api::Scope::MultiFlow,
        Scope::AllFlows => api::Scope::AllFlows,
    }
}

/// The scope that messages have as this number.
pub fn scope_of(number: i32) -> Option<Scope> {
    Scope::ALL.into_iter().find(|known| i32::from(scope_message(*known)) == number)
}

pub(crate) fn extent_to(extent: Extent) -> api::Extent {
    match extent {
        Extent::Overlaps => api::Extent::Overlaps,
        Extent::Contains => api::Extent::Contains,
    }
}

pub(crate) fn extent_of(extent: api::Extent) -> Extent {
    match extent {
        api::Extent::Unspecified | api::Extent::Overlaps => Extent::Overlaps,
        api::Extent::Contains => Extent::Contains,
    }
}

pub(crate) fn merge_rule_to(rule: MergeRule) -> api::MergeRule {
    match rule {
        MergeRule::Newer => api::MergeRule::Newer,
        MergeRule::Counter => api::MergeRule::Counter,
        MergeRule::Register => api::MergeRule::Register,
        MergeRule::Union => api::MergeRule::Union,
        MergeRule::Min => api::MergeRule::Min,
        MergeRule::Max => api::MergeRule::Max,
    }
}

pub(crate) fn merge_rule_of(number: i32) -> Option<MergeRule> {
    MergeRule::ALL.into_iter().find(|rule| merge_rule_to(*rule) as i32 == number)
}

pub(crate) fn action_to(action: Action) -> api::Action {
    match action {
        Action::Process => api::Action::Process,
        Action::Buffer => api::Action::Buffer,
        Action::Drop => api::Action::Drop,
    }
}

pub(crate) fn action_of(action: api::Action) -> Option<Action> {
    match action {
        api::Action::Unspecified => None,
        api::Action::Process => Some(Action::Process),
        api::Action::Buffer => Some(Action::Buffer),
        api::Action::Drop => Some(Action::Drop),
    }
}

pub(crate) fn id_to(id: &FlowId) -> Vec<u8> {
    Writer::bytes_of(|out| id.put(out))
}

pub(crate) fn id_of(bytes: &[u8]) -> Result<FlowId, WireError> {
    Reader::whole(bytes, FlowId::take)
}

/// The message of an event that has that number.
pub(crate) fn event_to(event: &Event, sequence: u64) -> api::Event {
    let cause = match event.cause {
        Cause::Processed => api::Cause::Processed,
        Cause::Dropped => api::Cause::Dropped,
    };
    api::Event {
        sequence,
        flow: id_to(&FlowId::flow(&event.key)),
        at_ns: event.at.0,
        cause: cause.into(),
        version: event.version,
        packet: event.packet.clone(),
        // No packet is as long.
        length: u32::try_from(event.length).unwrap_or(u32::MAX),
    }
}

/// The event of a message.
pub(crate) fn event_of(
    message: api::Event,
    subscription: SubscriptionId,
) -> Result<Event, Malformed> {
    let bad = |what: &str| Malformed(format!("event {} {what}", message.sequence));
    let id = id_of(&message.flow).map_err(|_| bad("has no flow id"))?;
    let key = id.key().ok_or_else(|| bad("is not about one flow"))?;
    let cause = match message.cause() {
        api::Cause::Processed => Cause::Processed,
        api::Cause::Dropped => Cause::Dropped,
        api::Cause::Unspecified => return Err(bad("has no cause")),
    };
    let length = message.length as usize;
    if message.packet.len() > length {
        return Err(bad("has more bytes than its packet"));
    }
    let (at, version, packet) = (Nanos(message.at_ns), message.version, message.packet);
    Ok(Event { subscription, key, at, cause, version, packet, length })
}

/// Why a chunk is refused, as a message.
pub(crate) fn refusal_to(error: &PutError) -> api::Refusal {
    use api::RefusalReason as Reason;
    let reason = match error {
        PutError::Chunk(error) => match error {
            ChunkError::NotAChunk => Reason::NotAChunk,
            ChunkError::UnknownFormat { .. } => Reason::UnknownFormat,
            ChunkError::Truncated { .. } => Reason::Truncated,
            ChunkError::TooLong { .. } => Reason::TooLong,
            ChunkError::TooLarge { .. } => Reason::TooLarge,
            ChunkError::Corrupted { .. } => Reason::Corrupted,
            ChunkError::BadField { .. } => Reason::BadField,
        },
        PutError::UnknownSchema { .. } => Reason::UnknownSchema,
        PutError::WrongId { .. } => Reason::WrongId,
        PutError::BadBody { .. } => Reason::BadBody,
        PutError::Full { .. } => Reason::Full,
        PutError::Clash { .. } => Reason::Clash,
        PutError::Unsupported { .. } => Reason::Unsupported,
        PutError::Older { .. } => Reason::Older,
    };
    api::Refusal { reason: reason.into(), message: cut(&error.to_string(), SAID_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_state_transfer::chunk::Schema;
    use weir_state_transfer::id::ServiceId;
    use weir_state_transfer::{FlowKey, flow_id::Extra};

    #[test]
    fn an_event_travels_as_it_is() {
        let key = FlowKey::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), (0, 0), 1, ServiceId(3));
        let subscription = SubscriptionId(5);
        // Bytes that are no text in any character set.
        let (at, packet) = (Nanos(9), vec![0xc3, 0x28, 0, 0xff]);
        let event =
            Event { subscription, key, at, cause: Cause::Dropped, version: 7, packet, length: 60 };
        assert_eq!(event_of(event_to(&event, 4), subscription), Ok(event.clone()));
        type Spoil = fn(&mut api::Event);
        let cases: [(Spoil, &str); 4] = [
            (|event| event.flow.clear(), "event 4 has no flow id"),
            (|event| event.flow = vec![0, 0], "event 4 is not about one flow"),
            (|event| event.cause = 0, "event 4 has no cause"),
            (|event| event.length = 2, "event 4 has more bytes than its packet"),
        ];
        for (spoil, why) in cases {
            let mut message = event_to(&event, 4);
            spoil(&mut message);
            assert_eq!(event_of(message, subscription), Err(Malformed(why.to_owned())));
        }
    }

    #[test]
    fn the_message_of_a_refusal_is_bounded() {
        let id = (0..4).fold(FlowId::default(), |id, number| {
            let extra = Extra::new(&format!("x.{number}"), &"\u{fc}".repeat(500));
            id.with(extra.expect("a field")).expect("room")
        });
        let error = PutError::WrongId { scope: Scope::PerFlow, id: Box::new(id) };
        let refusal = refusal_to(&error);
        assert!((1000..=SAID_MAX).contains(&refusal.message.len()));
        assert_eq!(refusal.reason(), api::RefusalReason::WrongId);
        let schema = Schema { kind: 1, revision: 2 };
        let unknown = refusal_to(&PutError::UnknownSchema { scope: Scope::PerFlow, schema });
        assert_eq!(unknown.message, "per-flow state of schema 0x0001.2 is not known here");
    }
}
