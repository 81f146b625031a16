//! The two ends of a flow. A half is named by the side its bytes come from.

use std::ops::{Index, IndexMut};

/// One of the two sockets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client's connection, accepted from a listener.
    Front,
    /// The connection to the backend.
    Back,
}

impl Side {
    /// Both sides, front first.
    pub const BOTH: [Side; 2] = [Side::Front, Side::Back];

    /// The opposite side: where the bytes that come from this one go.
    pub const fn other(self) -> Side {
        match self {
            Side::Front => Side::Back,
            Side::Back => Side::Front,
        }
    }
}

/// One value per side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerSide<T> {
    /// The client's.
    pub front: T,
    /// The backend's.
    pub back: T,
}

impl<T> Index<Side> for PerSide<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Front => &self.front,
            Side::Back => &self.back,
        }
    }
}

impl<T> IndexMut<Side> for PerSide<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Front => &mut self.front,
            Side::Back => &mut self.back,
        }
    }
}
