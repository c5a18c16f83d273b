//! A request and its response, as far as they have come.

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::super::codec::take_count;
use super::super::digest::Body;
use super::super::note::{Note, Notes};
use super::super::record::{ConnId, HttpRecord, RequestHead, ResponseHead};
use super::head::{FIELD_MAX, METHOD_MAX, URI_MAX};
use crate::nf::Timestamp;
use crate::nf::side::{Both, Side};

/// Bytes that one takes besides what is kept of its heads: it, and the digests of its bodies.
const TRANSACTION: usize = size_of::<Transaction>() + 2 * Body::RUNNING;

/// A request and its response.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Transaction {
    pub(super) ts: Timestamp,
    pub(super) depth: u64,
    pub(super) request: Option<RequestHead>,
    pub(super) response: Option<ResponseHead>,
    pub(super) info: Option<ResponseHead>,
    pub(super) bodies: Both<Body>,
    /// Which of the messages are complete.
    pub(super) done: Both<bool>,
    pub(super) tags: Notes,
}

impl Transaction {
    /// The record of it.
    pub(in super::super) fn into_record(self, id: ConnId) -> HttpRecord {
        let Self { ts, depth, request, response, info, bodies, done, mut tags } = self;
        let Both { orig, resp } = bodies;
        // A message without a body may have a field about it, such as the answer to a HEAD. Of one that
        // was not read to its end it is not known whether it has one.
        for (encoded, body, whole) in
            [(Note::RequestEncoded, &orig, done.orig), (Note::ResponseEncoded, &resp, done.resp)]
        {
            if whole && body.length() == 0 {
                tags.remove(encoded);
            }
        }
        HttpRecord {
            ts,
            id,
            trans_depth: depth,
            request,
            response,
            info,
            body_len: Both { orig: orig.length(), resp: resp.length() },
            body_md5: Both { orig: orig.digest(), resp: resp.digest() },
            tags,
        }
    }

    /// Bytes that it takes.
    pub(super) fn kept(&self) -> usize {
        let of_request = |request: &RequestHead| {
            let RequestHead { method, uri, host, referrer, user_agent, origin } = request;
            let fields = [host, referrer, user_agent, origin].into_iter().flatten();
            fields.fold(method.len() + uri.len(), |sum, field| sum + field.len())
        };
        let responses = [&self.response, &self.info].into_iter().flatten();
        TRANSACTION
            + self.request.as_ref().map_or(0, of_request)
            + responses.map(|response| response.message.len()).sum::<usize>()
    }

    /// A message is complete.
    pub(super) fn end(&mut self, side: Side) {
        self.bodies[side].end();
        self.done[side] = true;
    }

    pub(super) fn is_method(&self, method: &[u8]) -> bool {
        self.request.as_ref().is_some_and(|request| request.method == method)
    }

    pub(super) fn put(&self, out: &mut Writer) {
        out.u64(self.ts.0);
        out.u64(self.depth);
        out.option(self.request.as_ref(), |out, request| {
            out.bytes(&request.method);
            out.bytes(&request.uri);
            let RequestHead { host, referrer, user_agent, origin, .. } = request;
            for field in [host, referrer, user_agent, origin] {
                out.option(field.as_deref(), Writer::bytes);
            }
        });
        for response in [&self.response, &self.info] {
            out.option(response.as_ref(), |out, ResponseHead { minor, code, message }| {
                out.u8(*minor);
                out.u16(*code);
                out.bytes(message);
            });
        }
        for side in Side::BOTH {
            self.bodies[side].put(out);
            out.bool(self.done[side]);
        }
        self.tags.put(out);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut transaction = Self {
            ts: Timestamp(reader.u64()?),
            depth: take_count(reader, "number of a transaction")?,
            request: reader.option("request", take_request)?,
            response: reader.option("response", take_response)?,
            info: reader.option("response", take_response)?,
            ..Self::default()
        };
        for side in Side::BOTH {
            transaction.bodies[side] = Body::take(reader)?;
            transaction.done[side] = reader.bool("end of a message")?;
        }
        transaction.tags = Notes::take(reader)?;
        Ok(transaction)
    }
}

fn take_request(reader: &mut Reader<'_>) -> Result<RequestHead, WireError> {
    let method = reader.bytes("bytes of method", METHOD_MAX)?.to_vec();
    let uri = reader.bytes("bytes of request target", URI_MAX)?.to_vec();
    let mut field =
        || reader.option("field", |reader| Ok(reader.bytes("bytes of field", FIELD_MAX)?.to_vec()));
    let (host, referrer, user_agent, origin) = (field()?, field()?, field()?, field()?);
    Ok(RequestHead { method, uri, host, referrer, user_agent, origin })
}

fn take_response(reader: &mut Reader<'_>) -> Result<ResponseHead, WireError> {
    let (minor, code) = (reader.u8()?, reader.u16()?);
    let message = reader.bytes("bytes of reason", FIELD_MAX)?.to_vec();
    Ok(ResponseHead { minor, code, message })
}
