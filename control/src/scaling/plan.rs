//! From what runs to a number of instances: the fewest moves that leave the buckets balanced.

use std::collections::BTreeSet;

use weir_state_transfer::{BUCKETS, Bucket, BucketSet};

use super::policy::INSTANCES_MAX;

/// Where an instance stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifecycle {
    /// Being set up by its worker.
    Starting,
    /// Reported itself ready.
    Ready,
    /// May own flows.
    Active,
    /// Owns nothing and gets nothing.
    Paused,
    /// Going away.
    Stopping,
}

/// An instance that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningInstance {
    /// Its number, as the steering table names it.
    pub id: u32,
    /// Its name, unique on the node.
    pub name: String,
    /// Where it stands in its life.
    pub state: Lifecycle,
}

/// What runs on the node when a plan is made.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// All instances.
    pub instances: Vec<RunningInstance>,
    /// Id of the owner of each bucket.
    pub owners: Vec<u8>,
    /// Whether rules or exact flows steer besides the buckets.
    pub steers_beyond_buckets: bool,
}

/// A change of owner of buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMove {
    /// Name of the instance that owns the flows.
    pub source: String,
    /// Name of the instance that shall own them.
    pub destination: String,
    /// The buckets whose flows go.
    pub buckets: BucketSet,
    /// The source does not own these buckets, only flows in them that rules gave it. They go to
    /// whoever owns the bucket, and stay there when the operation is undone.
    pub sweep: bool,
}

/// What a plan does to the number of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It grows.
    Out,
    /// It shrinks.
    In,
    /// It stays, and the buckets are balanced.
    Rebalance,
}

/// The ordered steps to a number of instances: bring up, move, retire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it does to the number of instances.
    pub direction: Direction,
    /// Active instances before.
    pub from: u32,
    /// Active instances after.
    pub to: u32,
    /// Names of the instances to create.
    pub create: Vec<String>,
    /// Names of the instances to activate: those created, and those that stood by.
    pub activate: Vec<String>,
    /// Changes of owner.
    pub moves: Vec<PlannedMove>,
    /// Names of the instances to remove, in order.
    pub retire: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.activate.is_empty() && self.moves.is_empty() && self.retire.is_empty()
    }
}

/// Why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The number is not one that a node can have.
    #[error("the number of instances must be between 1 and {INSTANCES_MAX}, not {0}")]
    Count(u32),
    /// The data plane's steering table has another size.
    #[error("the steering table has {0} buckets instead of {BUCKETS}")]
    Buckets(usize),
}

/// Plans the way from what runs to `wanted` instances.
///
/// The instances kept are those that own most, so that the fewest buckets change owner; the same
/// input gives the same plan.
///
/// # Errors
/// When the number or the steering table is out of bounds.
pub fn plan(running: &Running, wanted: u32) -> Result<Plan, PlanError> {
    if wanted == 0 || wanted > INSTANCES_MAX {
        return Err(PlanError::Count(wanted));
    }
    if running.owners.len() != BUCKETS {
        return Err(PlanError::Buckets(running.owners.len()));
    }
    let mut cast = Cast::choose(running, wanted as usize);
    let mut final_owners = vec![None; BUCKETS];
    let mut moves = balance(&mut cast, &mut final_owners);
    if running.steers_beyond_buckets {
        moves.extend(sweeps(&cast, &final_owners));
    }
    let from = running.instances.iter().filter(|i| i.state == Lifecycle::Active).count() as u32;
    let direction = match wanted.cmp(&from) {
        std::cmp::Ordering::Greater => Direction::Out,
        std::cmp::Ordering::Less => Direction::In,
        std::cmp::Ordering::Equal => Direction::Rebalance,
    };
    let Cast { create, activate, retiring, .. } = cast;
    let retire = retiring.into_iter().map(|member| member.name).collect();
    Ok(Plan { direction, from, to: wanted, create, activate, moves, retire })
}

/// An instance with the buckets that it owns, in ascending order.
struct Member {
    name: String,
    owned: Vec<usize>,
}

/// Which instances stay or come, and which go.
struct Cast {
    staying: Vec<Member>,
    retiring: Vec<Member>,
    create: Vec<String>,
    activate: Vec<String>,
}

impl Cast {
    fn choose(running: &Running, wanted: usize) -> Self {
        let mut owned = vec![Vec::new(); 256];
        for (bucket, owner) in running.owners.iter().enumerate() {
            owned[usize::from(*owner)].push(bucket);
        }
        let mut candidates: Vec<(&RunningInstance, Vec<usize>)> = running
            .instances
            .iter()
            .filter(|instance| instance.state != Lifecycle::Stopping)
            .map(|instance| {
                let buckets = owned.get_mut(instance.id as usize).map(std::mem::take);
                (instance, buckets.unwrap_or_default())
            })
            .collect();
        candidates.sort_by_key(|(instance, buckets)| {
            (instance.state != Lifecycle::Active, usize::MAX - buckets.len(), instance.id)
        });
        let retiring = candidates.split_off(candidates.len().min(wanted));
        let mut activate: Vec<String> = Vec::new();
        candidates.sort_by_key(|(instance, _)| (instance.state != Lifecycle::Active, instance.id));
        let member = |(instance, owned): (&RunningInstance, _)| Member {
            name: instance.name.clone(),
            owned,
        };
        let inactive = candidates.iter().filter(|(i, _)| i.state != Lifecycle::Active);
        activate.extend(inactive.map(|(instance, _)| instance.name.clone()));
        let mut staying: Vec<Member> = candidates.into_iter().map(member).collect();
        let mut retiring: Vec<Member> = retiring.into_iter().map(member).collect();
        retiring.reverse();
        let create = free_names(&running.instances, wanted - staying.len());
        staying.extend(create.iter().map(|name| Member { name: name.clone(), owned: Vec::new() }));
        activate.extend(create.iter().cloned());
        Self { staying, retiring, create, activate }
    }
}

/// The first names that no instance has, numbered like the oldest one's: `sw1`, `sw2` …
fn free_names(instances: &[RunningInstance], count: usize) -> Vec<String> {
    let taken: BTreeSet<&str> = instances.iter().map(|i| i.name.as_str()).collect();
    let oldest = instances.iter().min_by_key(|instance| instance.id);
    let stem = oldest.map_or("sw", |i| i.name.trim_end_matches(|c: char| c.is_ascii_digit()));
    let names = (1..).map(|number| format!("{stem}{number}"));
    names.filter(|name| !taken.contains(name.as_str())).take(count).collect()
}

/// Takes what each member owns too much and gives it to those that own too little. Fills in the
/// place of each staying member that owns a bucket in the end.
fn balance(cast: &mut Cast, final_owners: &mut [Option<usize>]) -> Vec<PlannedMove> {
    let total: usize = cast.staying.iter().chain(&cast.retiring).map(|m| m.owned.len()).sum();
    let (share, extra) = (total / cast.staying.len(), total % cast.staying.len());
    let mut by_owned: Vec<usize> = (0..cast.staying.len()).collect();
    by_owned.sort_by_key(|place| usize::MAX - cast.staying[*place].owned.len());
    let mut quota = vec![share; cast.staying.len()];
    by_owned.iter().take(extra).for_each(|place| quota[*place] += 1);

    let mut surplus: Vec<(String, Vec<usize>)> = Vec::new();
    for member in &mut cast.retiring {
        surplus.push((member.name.clone(), member.owned.clone()));
    }
    for (place, member) in cast.staying.iter_mut().enumerate() {
        let kept = member.owned.len().min(quota[place]);
        surplus.push((member.name.clone(), member.owned.split_off(kept)));
        member.owned.iter().for_each(|bucket| final_owners[*bucket] = Some(place));
    }
    let mut moves = Vec::new();
    let mut takers = cast.staying.iter().enumerate().filter_map(|(place, member)| {
        let lacking = quota[place] - member.owned.len();
        (lacking > 0).then_some((place, lacking))
    });
    let mut taker = takers.next();
    for (source, buckets) in surplus {
        let mut rest = buckets.as_slice();
        while let (false, Some((place, lacking))) = (rest.is_empty(), taker) {
            let (given, left) = rest.split_at(lacking.min(rest.len()));
            given.iter().for_each(|bucket| final_owners[*bucket] = Some(place));
            moves.push(PlannedMove {
                source: source.clone(),
                destination: cast.staying[place].name.clone(),
                buckets: set_of(given.iter().copied()),
                sweep: false,
            });
            rest = left;
            let lacking = lacking - given.len();
            taker = if lacking > 0 { Some((place, lacking)) } else { takers.next() };
        }
    }
    moves
}

/// Moves that take from the retiring what rules and exact flows gave them in others' buckets.
fn sweeps(cast: &Cast, final_owners: &[Option<usize>]) -> Vec<PlannedMove> {
    let mut moves = Vec::new();
    for retiring in &cast.retiring {
        let own: BTreeSet<usize> = retiring.owned.iter().copied().collect();
        for (place, staying) in cast.staying.iter().enumerate() {
            let swept = (0..BUCKETS)
                .filter(|bucket| final_owners[*bucket] == Some(place) && !own.contains(bucket));
            let buckets = set_of(swept);
            if !buckets.is_empty() {
                moves.push(PlannedMove {
                    source: retiring.name.clone(),
                    destination: staying.name.clone(),
                    buckets,
                    sweep: true,
                });
            }
        }
    }
    moves
}

fn set_of(buckets: impl Iterator<Item = usize>) -> BucketSet {
    buckets.map(|bucket| Bucket::of(bucket as u32)).collect()
}
