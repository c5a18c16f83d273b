//! What a worker remembers of resolutions: the neighbour's number by port and address.

use std::collections::HashMap;
use std::net::IpAddr;

use weir_state_transfer::PortId;

use super::adjacency::AdjacencyId;
use super::event::Resolution;

/// The neighbours that the owners of the ports have announced to this worker.
///
/// Used on the slow path only: a flow entry keeps the number it found here. Bounded by the
/// neighbours that the ports can have; the key of the hash is random for each start.
#[derive(Debug)]
pub struct Directory {
    known: HashMap<(PortId, IpAddr), AdjacencyId>,
    most: usize,
}

impl Directory {
    /// An empty directory of at most `most` neighbours, its memory taken at once.
    pub fn new(most: usize) -> Self {
        Self { known: HashMap::with_capacity(most), most }
    }

    /// The number of a neighbour that was announced.
    pub fn get(&self, port: PortId, address: IpAddr) -> Option<AdjacencyId> {
        self.known.get(&(port, address)).copied()
    }

    /// Remembers or forgets what a resolution says.
    pub fn learn(&mut self, resolution: &Resolution) {
        let neighbour = (resolution.port, resolution.address);
        match resolution.id {
            Some(id) if self.known.len() < self.most || self.known.contains_key(&neighbour) => {
                self.known.insert(neighbour, id);
            }
            // Full: the neighbour is asked for again when the next flow needs it.
            Some(_) => {}
            None => {
                self.known.remove(&neighbour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_announced_is_found_until_it_failed_and_never_more_than_the_bound() {
        let mut directory = Directory::new(1);
        let (port, address) = (PortId(1), IpAddr::from([10, 0, 0, 1]));
        let id = AdjacencyId::new(port, 0, 0);
        let found = Resolution { port, address, id: Some(id) };
        directory.learn(&found);
        directory.learn(&Resolution { address: [10, 0, 0, 2].into(), ..found });
        assert_eq!(directory.get(port, address), Some(id));
        assert_eq!(directory.get(port, [10, 0, 0, 2].into()), None);
        directory.learn(&Resolution { id: None, ..found });
        assert_eq!(directory.get(port, address), None);
    }
}
