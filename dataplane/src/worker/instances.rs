//! The instances of one worker.

use weir_state_transfer::InstanceId;

use crate::instance::Instance;

/// The instances of one worker, found by number.
#[derive(Debug)]
pub(crate) struct Instances {
    list: Vec<Instance>,
    /// The place in `list` of each instance, by instance number.
    places: Box<[u8; 256]>,
}

const NOT_HERE: u8 = u8::MAX;

impl Default for Instances {
    fn default() -> Self {
        Self { list: Vec::new(), places: Box::new([NOT_HERE; 256]) }
    }
}

impl Instances {
    /// The instance with this number, if this worker runs it.
    #[inline]
    pub(crate) fn find(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.list.get_mut(usize::from(self.places[usize::from(id.0)]))
    }

    pub(crate) fn add(&mut self, instance: Instance) {
        self.list.push(instance);
        self.index();
    }

    pub(crate) fn remove(&mut self, id: InstanceId) -> Option<Instance> {
        let place = self.list.iter().position(|instance| instance.id == id)?;
        let instance = self.list.remove(place);
        self.index();
        Some(instance)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.list.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.list.iter_mut()
    }

    fn index(&mut self) {
        self.places.fill(NOT_HERE);
        for (place, instance) in self.list.iter().enumerate() {
            self.places[usize::from(instance.id.0)] =
                u8::try_from(place).expect("the node bounds the number of instances");
        }
    }
}
