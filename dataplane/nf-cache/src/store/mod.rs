//! The store: objects by URL and variant, who has fetched them, and a bound on all together.

mod freshness;
mod object;
mod reference;
mod selecting;
mod url;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use http::header::HeaderMap;
use lru::LruCache;

pub(crate) use freshness::date;
pub(crate) use object::{Head, Object};
pub(crate) use reference::Reference;
pub(crate) use url::Url;

/// Variants of one URL at most; the one that was taken in first goes.
const VARIANTS_MAX: usize = 8;
/// Clients of one object that are kept at most; the one that came first goes.
pub(crate) const CLIENTS_MAX: usize = 64;
/// What is kept of a client of an object, in bytes, about.
const CLIENT_SIZE: usize = 192;

/// Headers that concern one connection only (RFC 9110, section 7.6.1).
pub(crate) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Objects, in the order in which they were used.
#[derive(Debug)]
pub(crate) struct Store {
    pages: LruCache<Url, Vec<Entry>>,
    /// Who has fetched what, in the order in which it became known.
    references: BTreeMap<u64, Reference>,
    next_serial: u64,
    bytes: usize,
    max: usize,
    /// Objects that have gone to make room.
    evicted: u64,
}

/// An object and the clients that have fetched it.
#[derive(Debug)]
struct Entry {
    object: Rc<Object>,
    variant: Option<Rc<str>>,
    clients: BTreeMap<IpAddr, Mark>,
}

/// What is known of a client of an object.
#[derive(Clone, Copy, Debug)]
struct Mark {
    serial: u64,
    /// The update that has changed what the client has of it.
    version: u64,
}

impl Store {
    /// A store for so many bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            pages: LruCache::unbounded(),
            references: BTreeMap::new(),
            next_serial: 1,
            bytes: 0,
            max,
            evicted: 0,
        }
    }

    /// The object that a request for a URL is for, used now.
    pub(crate) fn find(&mut self, url: &Url, request: &HeaderMap) -> Option<Rc<Object>> {
        let page = self.pages.get(url)?;
        let matching = page.iter().filter(|entry| {
            let selecting = &entry.object.selecting;
            selecting.again(request) == *selecting
        });
        // What `Vary` names may have changed: then more than one may match, and the last counts.
        let latest = matching.max_by_key(|entry| entry.object.rank());
        latest.map(|entry| Rc::clone(&entry.object))
    }

    /// A client has fetched an object, which takes the place of an older one.
    pub(crate) fn insert(&mut self, object: Object, client: IpAddr, version: u64) {
        self.put(object, client, version, |_, _| true);
    }

    /// Merges an object that a client has fetched elsewhere. Of two objects the one of the greater
    /// rank stays; of two copies of one the older.
    pub(crate) fn join(&mut self, object: Object, client: IpAddr, version: u64) {
        self.put(object, client, version, |old, new| {
            new.rank() > old.rank()
                || (new.rank() == old.rank() && new.freshness.born() < old.freshness.born())
        });
    }

    fn put(
        &mut self,
        object: Object,
        client: IpAddr,
        version: u64,
        replaces: impl Fn(&Object, &Object) -> bool,
    ) {
        let url = object.url.clone();
        let variant: Option<Rc<str>> = object.selecting.variant().map(Into::into);
        let page = self.pages.get_or_insert_mut(url.clone(), Vec::new);
        match page.iter_mut().find(|entry| entry.variant == variant) {
            Some(entry) if replaces(&entry.object, &object) => {
                self.bytes = self.bytes + object.size() - entry.object.size();
                if object.rank() != entry.object.rank() {
                    entry.clients.values_mut().for_each(|mark| mark.version = version);
                }
                entry.object = Rc::new(object);
            }
            Some(_) => {}
            None => {
                self.bytes += object.size();
                let (object, clients) = (Rc::new(object), BTreeMap::new());
                page.push(Entry { object, variant: variant.clone(), clients });
                if page.len() > VARIANTS_MAX {
                    let gone = page.remove(0);
                    self.evicted += 1;
                    self.forget(&gone);
                }
            }
        }
        self.mark(&url, variant.as_deref(), client, version);
        while self.bytes > self.max && self.pages.len() > 1 {
            let Some((_, page)) = self.pages.pop_lru() else { break };
            self.evicted += page.len() as u64;
            page.iter().for_each(|entry| self.forget(entry));
        }
    }

    /// A client has fetched an object that is there.
    pub(crate) fn touch(&mut self, object: &Object, client: IpAddr, version: u64) {
        self.mark(&object.url, object.selecting.variant().as_deref(), client, version);
    }

    fn mark(&mut self, url: &Url, variant: Option<&str>, client: IpAddr, version: u64) {
        let Some(page) = self.pages.get_mut(url) else { return };
        let entry = page.iter_mut().find(|entry| entry.variant.as_deref() == variant);
        let Some(entry) = entry.filter(|entry| !entry.clients.contains_key(&client)) else {
            return;
        };
        if entry.clients.len() >= CLIENTS_MAX {
            let first = entry.clients.iter().min_by_key(|(_, mark)| mark.serial);
            if let Some((first, serial)) = first.map(|(client, mark)| (*client, mark.serial)) {
                entry.clients.remove(&first);
                self.references.remove(&serial);
                self.bytes -= CLIENT_SIZE;
            }
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        entry.clients.insert(client, Mark { serial, version });
        let reference = Reference { url: url.clone(), variant: entry.variant.clone(), client };
        self.references.insert(serial, reference);
        self.bytes += CLIENT_SIZE;
    }

    /// Forgets all of a URL; how many objects there were.
    pub(crate) fn invalidate(&mut self, url: &Url) -> usize {
        let page = self.pages.pop(url).unwrap_or_default();
        page.iter().for_each(|entry| self.forget(entry));
        page.len()
    }

    /// The references from a serial number on, with their numbers.
    pub(crate) fn references(&self, from: u64) -> impl Iterator<Item = (u64, &Reference)> {
        self.references.range(from..).map(|(serial, reference)| (*serial, reference))
    }

    /// The object that a reference is to, and the update that has changed it for the client.
    pub(crate) fn of_reference(&self, reference: &Reference) -> Option<(&Object, u64)> {
        let page = self.pages.peek(&reference.url)?;
        let entry = page.iter().find(|entry| entry.variant == reference.variant)?;
        Some((&entry.object, entry.clients.get(&reference.client)?.version))
    }

    /// Forgets that a client has fetched an object, which goes with its last client; whether it has.
    pub(crate) fn remove(&mut self, reference: &Reference) -> bool {
        let Some(page) = self.pages.peek_mut(&reference.url) else { return false };
        let place = page.iter().position(|entry| entry.variant == reference.variant);
        let Some(place) = place else { return false };
        let Some(mark) = page[place].clients.remove(&reference.client) else { return false };
        self.references.remove(&mark.serial);
        self.bytes -= CLIENT_SIZE;
        if page[place].clients.is_empty() {
            let gone = page.remove(place);
            if page.is_empty() {
                self.pages.pop(&reference.url);
            }
            self.forget(&gone);
        }
        true
    }

    /// Objects that have gone to make room since this was asked for last.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    fn forget(&mut self, gone: &Entry) {
        self.bytes -= gone.object.size() + gone.clients.len() * CLIENT_SIZE;
        for mark in gone.clients.values() {
            self.references.remove(&mark.serial);
        }
    }
}

/// How long an object is fresh yet, and how old it is.
pub(crate) fn times(
    object: &Object,
    now: SystemTime,
) -> (std::time::Duration, std::time::Duration) {
    (object.freshness.left(now), object.freshness.age(now))
}

#[cfg(test)]
mod tests {
    use super::object::tests::{now, object};
    use super::*;

    fn client(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn found(store: &mut Store, url: &str) -> Option<Vec<u8>> {
        let url = Url::of_text(url).expect("a URL");
        store.find(&url, &HeaderMap::new()).map(|object| object.body.to_vec())
    }

    /// What is in a store, but for serial numbers.
    fn content(store: &Store) -> Vec<(Reference, Vec<u8>)> {
        let of =
            |reference: &Reference| store.of_reference(reference).expect("it is there").0.encode();
        let mut all: Vec<_> =
            store.references(0).map(|(_, reference)| (reference.clone(), of(reference))).collect();
        all.sort();
        all
    }

    #[test]
    fn merges_in_any_order_make_the_same_store() {
        let mut rng = weir_seed::rng();
        for _ in 0..200 {
            let mut copies: Vec<(Object, IpAddr)> = (0..20)
                .map(|_| {
                    let url = format!("http://a/{}", rng.u8(..4));
                    let (ago, body) = (rng.u64(..3), [rng.u8(..3)]);
                    (object(&url, ago, &body), client(rng.u8(..4)))
                })
                .collect();
            let mut stores = Vec::new();
            for _ in 0..2 {
                let mut store = Store::new(1 << 20);
                for (object, client) in copies.iter().chain(&copies[..5]) {
                    store.join(object.clone(), *client, 1);
                }
                stores.push((content(&store), store.bytes));
                rng.shuffle(&mut copies);
            }
            assert_eq!(stores[0], stores[1]);
        }
    }

    #[test]
    fn what_was_used_longest_ago_makes_room_with_all_that_is_kept_of_it() {
        let one = object("http://a/1", 0, &[1; 1_000]);
        let mut store = Store::new(3 * one.size() + 4 * CLIENT_SIZE);
        for number in 1..=3 {
            store.insert(object(&format!("http://a/{number}"), 0, &[1; 1_000]), client(1), 1);
        }
        assert!(found(&mut store, "http://a/1").is_some());
        store.insert(object("http://a/4", 0, &[1; 1_000]), client(2), 1);
        assert_eq!((store.take_evicted(), store.take_evicted()), (1, 0));
        assert_eq!(found(&mut store, "http://a/2"), None);
        assert!(found(&mut store, "http://a/1").is_some());
        assert_eq!((store.references.len(), store.bytes <= store.max), (3, true));
        for number in [1, 3, 4] {
            store.invalidate(&Url::of_text(&format!("http://a/{number}")).expect("a URL"));
        }
        assert_eq!((store.references.len(), store.bytes), (0, 0));
    }

    #[test]
    fn an_object_goes_with_its_last_client() {
        let mut store = Store::new(1 << 20);
        store.insert(object("http://a/1", 0, b"x"), client(1), 1);
        let same = object("http://a/1", 0, b"x");
        store.touch(&same, client(2), 2);
        store.touch(&same, client(2), 3);
        let references: Vec<Reference> = store.references(0).map(|(_, r)| r.clone()).collect();
        assert_eq!(references.len(), 2);
        assert!(store.remove(&references[0]) && !store.remove(&references[0]));
        assert!(found(&mut store, "http://a/1").is_some());
        assert!(store.remove(&references[1]));
        assert_eq!((found(&mut store, "http://a/1"), store.bytes), (None, 0));
    }

    #[test]
    fn an_object_has_so_many_clients_at_most() {
        let mut store = Store::new(1 << 20);
        for last in 0..=CLIENTS_MAX as u8 {
            store.join(object("http://a/1", 0, b"x"), client(last), 1);
        }
        let clients: Vec<_> = store.references(0).map(|(_, reference)| reference.client).collect();
        assert_eq!((clients.len(), clients.contains(&client(0))), (CLIENTS_MAX, false));
    }

    #[test]
    fn a_newer_object_stays_and_the_older_of_two_copies() {
        let mut store = Store::new(1 << 20);
        store.join(object("http://a/1", 50, b"old"), client(1), 1);
        store.join(object("http://a/1", 10, b"new"), client(2), 2);
        store.join(object("http://a/1", 50, b"old"), client(3), 3);
        assert_eq!(found(&mut store, "http://a/1"), Some(b"new".to_vec()));
        let versions: Vec<u64> = store
            .references(0)
            .filter_map(|(_, reference)| store.of_reference(reference))
            .map(|(_, version)| version)
            .collect();
        assert_eq!(versions, [2, 2, 3]);
        let object =
            store.pages.peek(&Url::of_text("http://a/1").expect("a URL")).expect("it is there");
        assert_eq!(times(&object[0].object, now()).1.as_secs(), 10);
    }
}
