//! Rules of gets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::{Chunk, Schema, Scope};
use weir_state_transfer::flow_id::{Ends, Extent};
use weir_state_transfer::state_filter::StateFilter;

use super::subject::Subject;
use super::{Verdict, fail};
use crate::client::Query;

/// Pieces of state whose fields are made filters of.
const SAMPLES: usize = 8;

/// What it gives is of the kinds that it has, and given once.
pub(super) async fn kinds(subject: &Subject, scope: Scope) -> Verdict {
    let mut seen = BTreeSet::new();
    for chunk in subject.some(scope).await? {
        let (id, schema) = (&chunk.id, chunk.schema);
        if chunk.scope != scope || !subject.description.has(scope, schema) {
            let found = chunk.scope;
            return fail(format!("it gives {found} state of schema {schema}, which it has not"));
        }
        if scope == Scope::PerFlow && id.key().is_none() {
            return fail(format!("it gives per-flow state of {id}, which is not one flow"));
        }
        if !seen.insert((id.clone(), schema)) {
            return fail(format!("it gives the state of {id} twice"));
        }
    }
    Ok(())
}

/// It gives what a filter picks, and nothing else.
pub(super) async fn filter(subject: &Subject, scope: Scope) -> Verdict {
    let quiet = subject.quiet().await?;
    let all = subject.some(scope).await?;
    for filter in filters(&all) {
        for extent in [Extent::Overlaps, Extent::Contains] {
            let query = Query { extent, ..Query::new(filter.clone()) };
            let given = keys(subject.get(scope, &query).await?.iter());
            let picked = keys(all.iter().filter(|chunk| filter.picks(&chunk.id, extent)));
            let other_names = subject.description.other_names;
            if let Some((id, _)) = given.difference(&picked).next()
                && !other_names
            {
                return fail(format!("for {filter} ({extent:?}) it gives the state of {id}"));
            }
            if let Some((id, _)) = picked.difference(&given).next() {
                return fail(format!("for {filter} ({extent:?}) it keeps back the state of {id}"));
            }
        }
    }
    quiet.end().await
}

/// It gives nothing of a scope that it says it has no state of.
pub(super) async fn nothing(subject: &Subject, scope: Scope) -> Verdict {
    match subject.all(scope).await?.first() {
        None => Ok(()),
        Some(chunk) => fail(format!("it gives {scope} state of {}, and describes none", chunk.id)),
    }
}

/// It gives what is of a version above the one that is asked for, or what has changed after so many
/// changes where it counts these apart.
pub(super) async fn since(subject: &Subject, scope: Scope) -> Verdict {
    let quiet = subject.quiet().await?;
    let all = subject.some(scope).await?;
    if let Some(changes) = subject.changes(scope).await? {
        after(subject, scope, &all, changes).await?;
        return quiet.end().await;
    }
    let mut versions: Vec<u64> = all.iter().map(|chunk| chunk.version).collect();
    versions.sort_unstable();
    let last = versions[versions.len() - 1];
    for since in [versions[versions.len() / 2], last, last.saturating_sub(1)] {
        let query = Query { since, ..Query::new(StateFilter::default()) };
        let given = keys(subject.get(scope, &query).await?.iter());
        let newer = keys(all.iter().filter(|chunk| chunk.version > since));
        if given != newer {
            let (given, newer) = (given.len(), newer.len());
            return fail(format!("{newer} chunks are newer than {since}, and it gives {given}"));
        }
    }
    quiet.end().await
}

/// What is put is a change, and nothing else happens.
async fn after(subject: &Subject, scope: Scope, all: &[Chunk], changes: u64) -> Verdict {
    let query = Query { since: changes, ..Query::new(StateFilter::default()) };
    let given = subject.get(scope, &query).await?.len();
    if given > 0 {
        return fail(format!("nothing has changed since {changes}, and it gives {given} chunks"));
    }
    let put = &all[..all.len().div_ceil(2)];
    subject.put(scope, put).await?;
    let given = keys(subject.get(scope, &query).await?.iter());
    let missing = keys(put.iter()).difference(&given).count();
    if missing > 0 {
        return fail(format!(
            "{missing} chunks were put after {changes} changes and are not given"
        ));
    }
    Ok(())
}

fn keys<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> BTreeSet<(FlowId, Schema)> {
    chunks.map(|chunk| (chunk.id.clone(), chunk.schema)).collect()
}

/// Filters that some of the state is picked by, and such that pick less than it looks.
fn filters(all: &[Chunk]) -> Vec<StateFilter> {
    // In steps that no order of the state has.
    let samples = (0..SAMPLES.min(all.len())).map(|number| &all[number * 7_919 % all.len()]);
    let texts: BTreeSet<String> = samples.flat_map(|chunk| texts(&chunk.id)).collect();
    // A text that is none, as for an id with a field of its own in it, picks nothing in common.
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Filters as text, made of what an id says.
fn texts(id: &FlowId) -> Vec<String> {
    let mut texts = vec!["proto=253".to_owned()];
    if let Some(key) = id.key() {
        let exact = id.to_string();
        texts.push(format!("{exact},symmetric=false"));
        texts.push(FlowId::flow(&key.reversed()).to_string());
        texts.push(format!("{},symmetric=false", FlowId::flow(&key.reversed())));
        texts.push(exact);
        texts.push(format!("src={}", network(key.dst())));
        texts.push(format!("dst={},symmetric=false", network(key.dst())));
        texts.push(format!("proto={}", key.protocol()));
        if key.src_port() != 0 {
            texts.push(format!("dport={}", key.dst_port()));
            texts.push(format!("sport={}-65535,symmetric=false", key.src_port()));
        }
    }
    if let Ends::Host(prefix) = &id.ends {
        texts.push(format!("src={prefix}"));
        texts.push(format!("dst={prefix},dport=80"));
        texts.push(format!("dst={}", network(prefix.address())));
    }
    texts.extend(id.service.map(|service| format!("service={service}")));
    texts.extend(id.service.map(|service| format!("service={}", service.0 ^ 1)));
    texts
}

/// A network that an address is in.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            format!("{first}.{second}.0.0/16")
        }
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            format!("{first:x}:{second:x}::/32")
        }
    }
}
