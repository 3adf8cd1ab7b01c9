//! A machine with what its process can do with it, beside letting it go on.

use super::order::{Answer, Refusal, Reply};
use crate::{
    flight,
    place::Place,
    reload,
    shelf::{Tag, Wish},
    timeline::Leg,
};
use reprise_machine::Machine;

/// What [`Hub::drive`](super::Hub::drive) drives.
pub(crate) trait Driven {
    fn machine(&mut self) -> &mut Machine;

    /// Let it go on until it stops.
    fn go(&mut self) -> Leg;

    /// Go to a place of the recording and stand still there. `over`: whether nobody waits for that any more.
    fn seek(&mut self, place: Place, paused: &mut bool, over: &dyn Fn() -> bool) -> Answer {
        let _there_is_none = (place, paused, over);
        Err(Refusal::new("replay must be enabled to seek: this machine replays nothing"))
    }

    /// Stand still before this instruction when it comes; `None`: at none.
    fn set_break(&mut self, icount: Option<u64>) -> Answer {
        let _there_is_none = icount;
        Err(Refusal::new("replay breakpoints are allowed only in play mode: this machine replays nothing"))
    }

    /// Become what a snapshot says, and run or stand still as before.
    fn load(&mut self, tag: Tag) -> Answer;

    /// Make the devices of a plugin anew by another build of it, in the state that they have.
    fn reload(&mut self, wish: reload::Wish) -> Answer;

    /// Save what the flight recorder keeps. `reply` is called later, from another thread.
    fn save_flight(&mut self, wish: flight::Wish, reply: Reply) {
        let _there_is_none = wish;
        reply(Err(flight::none()));
    }

    /// Save, delete or list snapshots. `reply` is called later, from another thread.
    fn shelve(&mut self, wish: Wish, reply: Reply);
}
