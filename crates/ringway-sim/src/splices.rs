//! Carries out what flows ask for about pipes: taking one, giving it back, and `splice(2)` on the
//! worker's own thread.
//!
//! Invariant: a half has at most one pipe, and a pipe that is given back as empty is.

use ringway_flow::{Input, Residue, Side};

use crate::kernel::Kind;
use crate::options::Canary;
use crate::world::{World, require};

impl World {
    pub(crate) fn take_pipe(&mut self, slot: usize, from: Side) -> Result<Input, String> {
        let holder = (self.session(slot)?.token, from);
        require(self.kernel.pipes.content(holder).is_none(), || {
            "a second pipe".into()
        })?;
        let refused = self.dice.chance(self.options.faults.no_pipe);
        let grant = (!refused).then(|| self.kernel.pipes.take(holder)).flatten();
        Ok(Input::Pipe { from, grant })
    }

    pub(crate) fn give_pipe(
        &mut self,
        slot: usize,
        from: Side,
        residue: Residue,
    ) -> Result<(), String> {
        let holder = (self.session(slot)?.token, from);
        let in_use = self.kernel.operations.iter().any(|it| {
            (it.token, it.from) == holder
                && matches!(it.kind, Kind::SpliceIn { .. } | Kind::SpliceOut { .. })
        });
        require(!in_use, || "the pipe is in use".into())?;
        let content = self
            .kernel
            .pipes
            .content_mut(holder)
            .ok_or("no pipe to give")?;
        match residue {
            Residue::Empty => require(content.is_empty(), || {
                format!("{} bytes in a pipe given back as empty", content.len())
            })?,
            Residue::Bytes if self.options.canary == Some(Canary::SharePipe) => {}
            // Destroyed; a new one takes its place.
            Residue::Bytes => content.clear(),
        }
        self.kernel.pipes.give_back(holder);
        Ok(())
    }

    pub(crate) fn require_pipe(
        &self,
        slot: usize,
        from: Side,
        holds: Option<u32>,
    ) -> Result<(), String> {
        let holder = (self.session(slot)?.token, from);
        let content = self
            .kernel
            .pipes
            .content(holder)
            .ok_or("a splice without a pipe")?;
        let expected = holds.unwrap_or(0);
        let canary = self.options.canary == Some(Canary::SharePipe);
        require(content.len() == expected || canary, || {
            format!("{} bytes in the pipe, not {expected}", content.len())
        })
    }

    pub(crate) fn splice_in(&mut self, slot: usize, from: Side, len: u32) -> Result<Input, String> {
        self.require_pipe(slot, from, None)?;
        let link = self.open_link(slot, from)?;
        let session = self.session(slot)?;
        require(!session.halves[from].source_busy, || {
            "the source is busy".into()
        })?;
        let holder = (session.token, from);
        let (dice, options) = (&mut self.dice, &self.options);
        let result = self.kernel.splice_in(holder, link, len, dice, options);
        Ok(Input::SplicedIn { from, result })
    }

    pub(crate) fn splice_out(
        &mut self,
        slot: usize,
        from: Side,
        len: u32,
    ) -> Result<Input, String> {
        self.require_pipe(slot, from, Some(len))?;
        let link = self.open_link(slot, from.other())?;
        let session = self.session(slot)?;
        require(!session.halves[from].destination_busy, || {
            "the destination is busy".into()
        })?;
        let holder = (session.token, from);
        let (dice, options) = (&mut self.dice, &self.options);
        let result = self.kernel.splice_out(holder, link, len, dice, options);
        Ok(Input::SplicedOut { from, result })
    }
}
