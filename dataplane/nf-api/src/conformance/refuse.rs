//! Rules of chunks that are none, or are not known.

use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::{BODY_MAX, Chunk, Schema, Scope};
use weir_state_transfer::flow_id::FLOW_ID_MAX;

use super::subject::{Subject, encoded, state_of};
use super::{Stop, Verdict, fail, skip};
use crate::client::RefusalReason;
use crate::description::Description;

/// Where the fields of an encoded chunk are.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const FORMAT: usize = 4;
    pub(super) const STAGE: usize = 6;
    pub(super) const RESERVED: usize = 7;
    pub(super) const KIND: usize = 8;
    pub(super) const VERSION: usize = 12;
    pub(super) const ID_LENGTH: usize = 36;
    pub(super) const RESERVED_FIELD: usize = 38;
    pub(super) const BODY_LENGTH: usize = 40;
    pub(super) const ID: usize = 44;
    /// Bytes of the checksum at the end.
    pub(super) const CHECKSUM: usize = 4;
}

/// A way to spoil a chunk, and the reason with which the result is to be refused.
pub(super) struct Case {
    pub(super) name: &'static str,
    reason: RefusalReason,
    spoil: fn(&Spoil<'_>) -> Vec<Vec<u8>>,
}

/// What there is to spoil.
struct Spoil<'a> {
    chunk: &'a Chunk,
    bytes: &'a [u8],
    description: &'a Description,
}

/// All of them.
pub(super) const CASES: &[Case] = &[
    Case { name: "truncated", reason: RefusalReason::Truncated, spoil: truncated },
    Case { name: "too-long", reason: RefusalReason::TooLong, spoil: too_long },
    Case { name: "oversize", reason: RefusalReason::TooLarge, spoil: oversize },
    Case { name: "corrupted", reason: RefusalReason::Corrupted, spoil: corrupted },
    Case { name: "no-chunk", reason: RefusalReason::NotAChunk, spoil: no_chunk },
    Case { name: "format", reason: RefusalReason::UnknownFormat, spoil: format_of_later },
    Case { name: "bad-field", reason: RefusalReason::BadField, spoil: bad_field },
    Case { name: "schema", reason: RefusalReason::UnknownSchema, spoil: schema },
    Case { name: "scope", reason: RefusalReason::UnknownSchema, spoil: scope_of_another },
    Case { name: "id", reason: RefusalReason::WrongId, spoil: wrong_id },
    Case { name: "bad-body", reason: RefusalReason::BadBody, spoil: bad_body },
];

impl Case {
    /// Whether state of a scope can be spoilt like that by who does not know it.
    pub(super) fn applies(&self, scope: Scope) -> bool {
        self.reason != RefusalReason::WrongId || scope == Scope::PerFlow
    }
}

/// Spoilt state is refused for that reason, and nothing changes.
pub(super) async fn refuses(subject: &Subject, scope: Scope, case: &Case) -> Verdict {
    let quiet = subject.quiet().await?;
    let all = subject.some(scope).await?;
    let before = state_of(&all, scope);
    // Of each kind of state.
    let mut kinds = all;
    kinds.sort_by_key(|chunk| (chunk.schema, usize::MAX - chunk.body.len()));
    kinds.dedup_by_key(|chunk| chunk.schema);
    let mut any = false;
    for chunk in &kinds {
        let bytes = encoded(std::slice::from_ref(chunk))?.concat();
        let description = &subject.description;
        for spoilt in (case.spoil)(&Spoil { chunk, bytes: &bytes, description }) {
            any = true;
            refused(subject, scope, case.reason, spoilt).await?;
        }
    }
    subject.unchanged(scope, &before, "after what it refused").await?;
    quiet.end().await?;
    if any { Ok(()) } else { skip("its state can not be spoilt like that") }
}

async fn refused(
    subject: &Subject,
    scope: Scope,
    reason: RefusalReason,
    spoilt: Vec<u8>,
) -> Result<(), Stop> {
    let length = spoilt.len();
    let put = subject.put_encoded(scope, vec![spoilt]).await?;
    match put.refusal {
        None => fail(format!("it took {} of one in, of {length} bytes", put.taken)),
        Some(_) if put.taken != 0 => fail("it refuses it and says that it took one in"),
        Some(refusal) if refusal.reason != reason => {
            fail(format!("it refuses it as {:?} and not as {reason:?}: {refusal}", refusal.reason))
        }
        Some(_) => Ok(()),
    }
}

/// A chunk of which the last byte is missing.
pub(super) fn without_its_end(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().saturating_sub(1)].to_vec()
}

fn truncated(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    let end = of.bytes.len();
    let lengths = [0, 3, 4, 5, 20, at::ID - 1, at::ID, end - at::CHECKSUM - 1, end - 1];
    lengths.iter().map(|length| of.bytes[..*length].to_vec()).collect()
}

fn too_long(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    [1, 100].map(|excess| [of.bytes, &vec![0; excess]].concat()).into()
}

fn oversize(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    let id = changed(of.bytes, at::ID_LENGTH, &(FLOW_ID_MAX as u16 + 1).to_be_bytes());
    let body = changed(of.bytes, at::BODY_LENGTH, &(BODY_MAX as u32 + 1).to_be_bytes());
    let most = changed(of.bytes, at::BODY_LENGTH, &u32::MAX.to_be_bytes());
    // One that is as long as it says, too.
    let mut whole = body[..of.bytes.len() - at::CHECKSUM].to_vec();
    whole.resize(whole.len() + BODY_MAX + 1 - of.chunk.body.len() + at::CHECKSUM, 0);
    [id, body, most, sealed(whole)].into()
}

fn corrupted(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    let end = of.bytes.len();
    let places =
        [at::STAGE, at::RESERVED, at::KIND, at::VERSION, at::ID, end - 5, end - 4, end - 1];
    let flipped = |place: usize| changed(of.bytes, place, &[of.bytes[place] ^ 0x40]);
    places.map(flipped).into()
}

fn no_chunk(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    vec![changed(of.bytes, at::MAGIC, b"RIEW"), vec![0; 64]]
}

fn format_of_later(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    vec![sealed(changed(of.bytes, at::FORMAT, &[of.bytes[at::FORMAT] + 1]))]
}

fn bad_field(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    // What other stages would ask for, such as to forget the flow, nobody carries out.
    let stages = [0, 2, 3, 9].map(|stage| sealed(changed(of.bytes, at::STAGE, &[stage])));
    let reserved = sealed(changed(of.bytes, at::RESERVED, &[1]));
    let field = sealed(changed(of.bytes, at::RESERVED_FIELD, &[0, 1]));
    // Bits of fields that no flow id has.
    let id = sealed(changed(of.bytes, at::ID, &[0xff, 0xff]));
    stages.into_iter().chain([reserved, field, id]).collect()
}

fn schema(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    let Schema { kind, revision } = of.chunk.schema;
    let others = [
        Schema { kind, revision: revision.wrapping_add(77) },
        Schema { kind: kind.wrapping_add(7777), revision },
    ];
    let unknown = |schema: &Schema| !of.description.kinds.iter().any(|kind| kind.schema == *schema);
    let chunk = |schema| Chunk { schema, ..of.chunk.clone() };
    others.into_iter().filter(unknown).filter_map(|schema| chunk(schema).encode().ok()).collect()
}

fn scope_of_another(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    let others = Scope::ALL.into_iter().filter(|scope| *scope != of.chunk.scope);
    let chunk = |scope| Chunk { scope, ..of.chunk.clone() };
    others.filter_map(|scope| chunk(scope).encode().ok()).collect()
}

fn wrong_id(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    let Some(key) = of.chunk.id.key() else { return Vec::new() };
    let ids = [FlowId::host(key.src(), key.service()), FlowId::default()];
    ids.into_iter().filter_map(|id| Chunk { id, ..of.chunk.clone() }.encode().ok()).collect()
}

fn bad_body(of: &Spoil<'_>) -> Vec<Vec<u8>> {
    if of.chunk.body.is_empty() {
        return Vec::new();
    }
    let body = without_its_end(&of.chunk.body);
    Chunk { body, ..of.chunk.clone() }.encode().into_iter().collect()
}

/// Bytes with others in a place.
fn changed(bytes: &[u8], place: usize, new: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[place..place + new.len()].copy_from_slice(new);
    changed
}

/// Bytes with the checksum that they should have at their end.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let covered = bytes.len() - at::CHECKSUM;
    let checksum = crc32c::crc32c(&bytes[..covered]).to_be_bytes();
    bytes[covered..].copy_from_slice(&checksum);
    bytes
}
