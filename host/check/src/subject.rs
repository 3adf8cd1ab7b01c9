//! One device under test, its world, and what can be seen of both after each step.

use crate::{
    script::{Op, mask},
    table,
    watch::{Watch, cpu},
    world::{Breach, Event, InFlight, World},
};
use reprise_abi::{
    desc::{ConfigError, DeviceDesc, PortKind},
    hot::{self, CtxRaw},
};
use reprise_machine::plugin::{Instance, LoadRefusal, Plugin};
use serde::{Deserialize, Serialize};

/// Safe points with something to do that one step may have: a device may be told to tick every nanosecond, and that is
/// no reason to follow it for long.
const BUDGET: u32 = 64;
/// As many safe points at one instant are a storm: each had a timer that was due again at once, or a bottom half.
const STORM: u32 = 1000;

/// A device that can be made anew: its plugin, kind and options.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) plugin: Plugin,
    pub(crate) kind: String,
    pub(crate) options: String,
    /// Of the disks behind its ports; `None`: the usual size.
    pub(crate) disk_bytes: Option<u64>,
}

impl Maker {
    pub(crate) fn create(&self) -> Result<Instance, ConfigError> {
        self.plugin.create(&self.kind, &self.options)
    }
}

/// What was seen of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Step {
    /// What a read gave; `None`: an access fault, or no read.
    pub(crate) value: Option<u64>,
    pub(crate) events: Vec<Event>,
    /// Deadlines by timer, with their rank among the armed ones: order decides between equal ones.
    pub(crate) timers: Vec<Option<(u64, usize)>>,
    pub(crate) bhs: Vec<(u32, Option<Vec<u8>>)>,
    pub(crate) state: Vec<u8>,
    pub(crate) breach: Option<Breach>,
}

/// A device and its world.
pub(crate) struct Subject {
    instance: Option<Instance>,
    pub(crate) maker: Maker,
    pub(crate) world: Box<World>,
    pub(crate) watch: Option<Box<dyn Watch>>,
    /// Whether each step ends with a look at the saved state.
    pub(crate) look: bool,
    cx: Box<CtxRaw>,
    storm: u32,
}

/// How an instance is called.
type Call<'a> = &'a mut dyn FnMut(&mut Instance, &mut CtxRaw) -> u64;

impl Subject {
    /// A new device, after a cold reset.
    pub(crate) fn new(maker: &Maker) -> Result<Self, ConfigError> {
        let mut this = Self::unreset(maker)?;
        this.reset(hot::RESET_COLD);
        Ok(this)
    }

    /// A new device, before its reset.
    pub(crate) fn unreset(maker: &Maker) -> Result<Self, ConfigError> {
        let instance = maker.create()?;
        let world = Box::new(World::new(instance.desc(), maker.disk_bytes));
        Ok(Self {
            instance: Some(instance),
            maker: maker.clone(),
            world,
            watch: None,
            look: true,
            cx: table::context(),
            storm: 0,
        })
    }

    fn instance(&self) -> &Instance {
        self.instance.as_ref().expect("there is one between two calls")
    }

    pub(crate) fn desc(&self) -> &DeviceDesc {
        self.instance().desc()
    }

    /// The one way into the device.
    fn call(&mut self, name: &'static str, call: Call<'_>) -> u64 {
        let Some(instance) = self.instance.as_mut() else { return hot::STATUS_PANIC };
        self.world.running = Some(name);
        table::bind(&mut self.cx, &mut self.world);
        let float = cpu::float_control();
        if let Some(watch) = &mut self.watch {
            watch.before(&self.world);
        }
        let status = call(instance, &mut self.cx);
        if let Some(watch) = &mut self.watch
            && let Some(breach) = watch.after(&self.world)
        {
            self.world.broke(breach);
        }
        self.world.running = None;
        self.world.announced.clear();
        let after = cpu::float_control();
        if after != float {
            cpu::set_float_control(float);
            let text = format!(
                "leaves the floating-point control register as {after:#x}, and found it as {float:#x}"
            );
            self.world.broke(Breach::FloatControl(text));
        }
        status
    }

    pub(crate) fn reset(&mut self, kind: u32) {
        self.world.drop_pending();
        self.call("reset", &mut |device, cx| device.reset(cx, kind));
    }

    fn read(&mut self, region: u32, offset: u64, size: u32) -> Option<u64> {
        let mut value = 0;
        let status = self.call("mmio_read", &mut |device, cx| {
            let result = device.mmio_read(cx, region, offset, size);
            value = result.value;
            result.status
        });
        (status == hot::IO_OK).then_some(value & mask(size))
    }

    /// A write counts as a read of nothing, so that a fault is seen.
    fn write(&mut self, region: u32, offset: u64, size: u32, value: u64) -> Option<u64> {
        let status = self
            .call("mmio_write", &mut |device, cx| device.mmio_write(cx, region, offset, size, value).status);
        (status == hot::IO_OK).then_some(0)
    }

    /// Do it, and say what was seen.
    pub(crate) fn apply(&mut self, op: &Op) -> Step {
        let value = self.perform(op);
        self.settle();
        self.seen(value)
    }

    fn perform(&mut self, op: &Op) -> Option<u64> {
        match op {
            Op::Read { region, offset, size } => return self.read(*region, *offset, *size),
            Op::Write { region, offset, size, value } => {
                return self.write(*region, *offset, *size, *value);
            }
            Op::Input { pin, high } => self.drive(*pin, *high),
            Op::Arrive { port, data } => self.arrive(*port, data),
            Op::Happen { port, event } => {
                let (port, event) = (*port, *event);
                self.call("on_port", &mut |device, cx| device.on_port(cx, port, event));
            }
            Op::Message { link, at, data } => {
                let (link, at) = (*link, *at);
                self.call("on_message", &mut |device, cx| device.on_message(cx, link, at, data.as_deref()));
            }
            Op::Ram { gpa, data } => self.world.ram.put(*gpa, data),
            Op::Advance(ns) => self.run(self.world.now_ns.saturating_add(*ns)),
            Op::NextDeadline => {
                if let Some(at) = self.world.next_deadline().filter(|at| *at < 1 << 62) {
                    self.run(at.max(self.world.now_ns));
                }
            }
            Op::WarmReset => self.reset(hot::RESET_WARM),
        }
        None
    }

    fn drive(&mut self, pin: u32, high: bool) {
        if std::mem::replace(&mut self.world.inputs[pin as usize], high) != high {
            self.call("on_pin", &mut |device, cx| device.on_pin(cx, pin, u32::from(high)));
        }
    }

    fn arrive(&mut self, port: u32, data: &[u8]) {
        let slot = &mut self.world.ports[port as usize];
        match slot.kind {
            PortKind::Net => slot.frames.push_back(data.to_vec()),
            PortKind::Chr | PortKind::Blk | PortKind::Display | PortKind::Input => slot.bytes.extend(data),
        }
        self.call("on_port", &mut |device, cx| device.on_port(cx, port, hot::PORT_READABLE));
    }

    /// Time passes.
    fn run(&mut self, until_ns: u64) {
        for _ in 0..BUDGET {
            let next =
                if self.world.bhs.is_empty() { self.world.next_deadline() } else { Some(self.world.now_ns) };
            let Some(at) = next.filter(|at| *at <= until_ns) else {
                self.world.now_ns = self.world.now_ns.max(until_ns);
                return;
            };
            if at > self.world.now_ns {
                self.world.now_ns = at;
                self.storm = 0;
            }
            self.safe_point();
        }
    }

    /// Everything that is due now, and what that makes due: it must come to an end.
    fn settle(&mut self) {
        self.storm = 0;
        while self.world.breach.is_none() && self.is_due() && self.storm < STORM {
            self.safe_point();
        }
    }

    fn is_due(&self) -> bool {
        !self.world.bhs.is_empty() || self.world.next_deadline().is_some_and(|at| at <= self.world.now_ns)
    }

    /// What is due by (deadline, order), then the bottom halves. What these make due waits for the next safe point.
    fn safe_point(&mut self) {
        let last = self.world.last_order();
        self.storm += 1;
        let storm = self.storm >= STORM;
        while let Some(due) = take_due(&mut self.world, last) {
            match due {
                Due::Timer(timer) => {
                    self.call("on_timer", &mut |device, cx| device.on_timer(cx, timer));
                    if storm {
                        let text = format!(
                            "timer {} came {STORM} times at one instant: it is armed again at once, in the past",
                            self.world.timer_names[timer as usize]
                        );
                        self.world.broke(Breach::TimerStorm(text));
                    }
                }
                Due::Block(done) => {
                    let InFlight { port, token, status, data, .. } = done;
                    self.call("on_blk", &mut |device, cx| device.on_blk(cx, port, token, status, &data));
                }
            }
        }
        for _ in 0..self.world.bhs.len() {
            let Some((bh, payload)) = self.world.bhs.pop_front() else { break };
            self.call("on_bh", &mut |device, cx| device.on_bh(cx, bh, payload.as_deref()));
            if storm {
                let name = &self.world.bh_names[bh as usize];
                let text = format!("bottom half {name} came {STORM} times at one instant: it queues itself");
                self.world.broke(Breach::BottomHalfStorm(text));
            }
        }
    }

    /// What can be seen now.
    pub(crate) fn seen(&mut self, value: Option<u64>) -> Step {
        let world = &mut self.world;
        let mut orders: Vec<u64> = world.timers.iter().flatten().map(|(_, order)| *order).collect();
        orders.sort_unstable();
        let rank = |order: u64| orders.partition_point(|other| *other < order);
        let timers = world.timers.iter().map(|timer| timer.map(|(at, order)| (at, rank(order)))).collect();
        let (events, bhs) = (std::mem::take(&mut world.events), world.bhs.iter().cloned().collect());
        let state = if self.look { self.save() } else { Vec::new() };
        Step { value, events, timers, bhs, state, breach: self.world.breach.clone() }
    }

    /// The state record; that it panics is a breach.
    pub(crate) fn save(&mut self) -> Vec<u8> {
        // A context that was kept must find this world.
        table::bind(&mut self.cx, &mut self.world);
        if let Some(watch) = &mut self.watch {
            watch.before(&self.world);
        }
        let saved = self.instance().try_save();
        if let Some(watch) = &mut self.watch
            && let Some(breach) = watch.after(&self.world)
        {
            self.world.broke(breach);
        }
        saved.unwrap_or_else(|text| {
            self.world.broke(Breach::Panic(format!("{text}, in save")));
            Vec::new()
        })
    }

    /// Load into the instance that is there.
    pub(crate) fn load(&mut self, record: &[u8]) -> Result<(), LoadRefusal> {
        let nobody = || LoadRefusal { text: "there is no device".to_owned(), panicked: false };
        table::bind(&mut self.cx, &mut self.world);
        self.instance.as_mut().ok_or_else(nobody)?.try_load(record)
    }

    /// Save, drop, create, load. What the host holds stays.
    pub(crate) fn reload(&mut self) -> Result<(), String> {
        let record = self.save();
        self.instance = None;
        self.renew()?;
        self.load(&record).map_err(|refusal| refusal.text)
    }

    /// A new instance in the old one's place.
    pub(crate) fn renew(&mut self) -> Result<(), String> {
        self.instance = None;
        self.instance = Some(self.maker.create().map_err(|error| error.message)?);
        Ok(())
    }
}

enum Due {
    Timer(u32),
    Block(InFlight),
}

enum Source {
    Timer(usize),
    Block(usize),
}

fn take_due(world: &mut World, last_order: u64) -> Option<Due> {
    let now_ns = world.now_ns;
    let due = |at: u64, order: u64| at <= now_ns && order <= last_order;
    let timers = world.timers.iter().enumerate().filter_map(|(index, armed)| {
        let (at, order) = (*armed)?;
        due(at, order).then_some((at, order, Source::Timer(index)))
    });
    let blocks = world.in_flight.iter().enumerate().filter_map(|(index, request)| {
        let (at, order) = (request.deadline_ns, request.order);
        due(at, order).then_some((at, order, Source::Block(index)))
    });
    let (_, _, source) = timers.chain(blocks).min_by_key(|(at, order, _)| (*at, *order))?;
    Some(match source {
        Source::Timer(index) => {
            world.timers[index] = None;
            Due::Timer(index as u32)
        }
        Source::Block(index) => Due::Block(world.in_flight.remove(index)),
    })
}
