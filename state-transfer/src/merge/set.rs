//! Sets whose elements come and go.

use std::collections::BTreeMap;

use super::{Join, Stamp};

/// A set of things, such as the ports of a host. The last time that an element was added or
/// removed counts.
///
/// What was removed is remembered, as a copy that has not heard of it may come later. The memory
/// is bounded: of more elements than fit, those that were touched last stay, which is the same
/// whatever the order in which copies come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set<T> {
    elements: BTreeMap<T, Touched>,
    max: usize,
}

/// What became of an element when it was touched last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched {
    /// When that was.
    pub stamp: Stamp,
    /// Whether it was added; otherwise it was removed.
    pub added: bool,
}

impl<T: Ord + Clone> Set<T> {
    /// An empty set, of so many elements at most, those that were removed included.
    pub fn new(max: usize) -> Self {
        Self { elements: BTreeMap::new(), max }
    }

    /// Adds an element.
    pub fn add(&mut self, element: T, stamp: Stamp) {
        self.touch(element, Touched { stamp, added: true });
        self.bound();
    }

    /// Removes an element.
    pub fn remove(&mut self, element: T, stamp: Stamp) {
        self.touch(element, Touched { stamp, added: false });
        self.bound();
    }

    /// Whether an element is in the set.
    pub fn contains(&self, element: &T) -> bool {
        self.elements.get(element).is_some_and(|touched| touched.added)
    }

    /// The elements, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.elements.iter().filter(|(_, touched)| touched.added).map(|(element, _)| element)
    }

    /// All that is remembered, removed elements too, in their order.
    pub fn touched(&self) -> impl ExactSizeIterator<Item = (&T, Touched)> {
        self.elements.iter().map(|(element, touched)| (element, *touched))
    }

    /// The set of so many elements at most in which these were touched.
    pub fn from_touched(max: usize, touched: impl IntoIterator<Item = (T, Touched)>) -> Self {
        let mut set = Self::new(max);
        for (element, touched) in touched {
            set.touch(element, touched);
        }
        set.bound();
        set
    }

    fn touch(&mut self, element: T, touched: Touched) {
        let known = self.elements.entry(element).or_insert(touched);
        *known = touched.max(*known);
    }

    fn bound(&mut self) {
        while self.elements.len() > self.max {
            let oldest = self.elements.iter().min_by_key(|(_, touched)| **touched);
            let Some(oldest) = oldest.map(|(element, _)| element.clone()) else { return };
            self.elements.remove(&oldest);
        }
    }
}

impl<T: Ord + Clone> Join for Set<T> {
    fn join(&mut self, other: &Self) {
        for (element, touched) in &other.elements {
            self.touch(element.clone(), *touched);
        }
        self.bound();
    }
}
