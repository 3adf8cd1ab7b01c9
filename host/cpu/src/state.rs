//! A hart's architectural state as named fields.

use crate::hart::{Counters, Csrs, Hart, Privilege, Waiting, mstatus};
use crate::mmu;
use crate::ram::GuestRam;
use crate::shared::LINE;
use crate::trap::{self, Interrupts, STIP};

/// Saved state that does not fit this hart.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// A field of the hart was not saved.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field is there twice.
    #[error("field `{0}` appears twice")]
    Duplicate(String),
    /// A saved field is none of a hart's.
    #[error("field `{0}` is unknown")]
    Unknown(String),
    /// A field holds what this hart cannot: saved by a hart of another configuration, or damaged.
    #[error("field `{0}` holds an impossible value")]
    Value(&'static str),
}

/// The fields that are one number, in the order in which they are saved. Checks of their values are in [`check`].
macro_rules! numbers {
    ($($name:literal $place:expr;)*) => {
        fn save_numbers(h: &mut Image) -> Vec<(&'static str, u64)> {
            vec![$(($name, *{
                let place: fn(&mut Image) -> &mut u64 = $place;
                place(h)
            })),*]
        }

        fn load_numbers(fields: &mut Fields<'_>, image: &mut Image) -> Result<(), StateError> {
            $({
                let place: fn(&mut Image) -> &mut u64 = $place;
                *place(image) = fields.number($name)?;
            })*
            Ok(())
        }
    };
}

numbers! {
    "pc" |h| &mut h.pc;
    "privilege" |h| &mut h.privilege;
    "waiting" |h| &mut h.waiting;
    "reservation" |h| &mut h.reservation;
    "fcsr" |h| &mut h.fcsr;
    "mstatus" |h| &mut h.mstatus;
    "medeleg" |h| &mut h.csr.medeleg;
    "mtvec" |h| &mut h.csr.mtvec;
    "mscratch" |h| &mut h.csr.mscratch;
    "mepc" |h| &mut h.csr.mepc;
    "mcause" |h| &mut h.csr.mcause;
    "mtval" |h| &mut h.csr.mtval;
    "mcounteren" |h| &mut h.csr.mcounteren;
    "menvcfg" |h| &mut h.csr.menvcfg;
    "stvec" |h| &mut h.csr.stvec;
    "sscratch" |h| &mut h.csr.sscratch;
    "sepc" |h| &mut h.csr.sepc;
    "scause" |h| &mut h.csr.scause;
    "stval" |h| &mut h.csr.stval;
    "scounteren" |h| &mut h.csr.scounteren;
    "senvcfg" |h| &mut h.csr.senvcfg;
    "satp" |h| &mut h.csr.satp;
    "stimecmp" |h| &mut h.csr.stimecmp;
    "mip_software" |h| &mut h.interrupts.software;
    "mip_wires" |h| &mut h.interrupts.wires;
    "mip_timer" |h| &mut h.interrupts.timer;
    "mie" |h| &mut h.interrupts.mie;
    "mideleg" |h| &mut h.interrupts.mideleg;
    "attempts" |h| &mut h.counters.attempts;
    "traps" |h| &mut h.counters.traps;
    "mcountinhibit" |h| &mut h.counters.inhibit;
    "mcycle_offset" |h| &mut h.counters.cycle;
    "minstret_offset" |h| &mut h.counters.instret;
}

/// A hart's state outside the hart.
struct Image {
    x: Vec<u64>,
    f: Vec<u64>,
    pmpcfg: Vec<u8>,
    pmpaddr: Vec<u64>,
    triggers: Vec<u64>,
    pc: u64,
    privilege: u64,
    waiting: u64,
    /// The line, plus 1 so that 0 is none.
    reservation: u64,
    fcsr: u64,
    mstatus: u64,
    csr: Csrs,
    interrupts: Interrupts,
    counters: Counters,
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Everything architectural, by name.
pub(crate) fn save(h: &Hart, reservation: Option<u64>) -> Vec<(String, Vec<u8>)> {
    let (x, f) = h.registers();
    let (pmpcfg, pmpaddr) = h.pmp.saved();
    let mut image = Image {
        x: x[..32].to_vec(),
        f: f[..32].to_vec(),
        pmpcfg: pmpcfg.to_vec(),
        pmpaddr: pmpaddr.to_vec(),
        triggers: h.triggers.saved(),
        pc: h.pc,
        privilege: h.privilege as u64,
        waiting: h.waiting as u64,
        reservation: reservation.map_or(0, |line| line + 1),
        fcsr: h.fcsr.into(),
        mstatus: h.mstatus,
        csr: h.csr.clone(),
        interrupts: h.interrupts.clone(),
        counters: h.counters.clone(),
    };
    let numbers = save_numbers(&mut image);
    let Image { x, f, pmpcfg, pmpaddr, triggers, .. } = image;
    let lists = [
        ("x", words(&x)),
        ("f", words(&f)),
        ("pmpcfg", pmpcfg),
        ("pmpaddr", words(&pmpaddr)),
        ("triggers", words(&triggers)),
    ];
    let numbers = numbers.into_iter().map(|(name, value)| (name, value.to_le_bytes().to_vec()));
    lists.into_iter().chain(numbers).map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// Restores a hart, or leaves it as it was. Returns the reservation.
pub(crate) fn load(
    h: &mut Hart,
    fields: &[(String, Vec<u8>)],
    ram: &GuestRam,
) -> Result<Option<u64>, StateError> {
    let mut fields = Fields::new(fields)?;
    let mut image = Image {
        x: fields.words("x", 32)?,
        f: fields.words("f", 32)?,
        pmpcfg: fields.bytes("pmpcfg")?.to_vec(),
        pmpaddr: fields.words("pmpaddr", 16)?,
        triggers: fields.words("triggers", h.triggers.saved().len())?,
        pc: 0,
        privilege: 0,
        waiting: 0,
        reservation: 0,
        fcsr: 0,
        mstatus: 0,
        csr: Csrs::default(),
        interrupts: Interrupts::default(),
        counters: Counters::default(),
    };
    load_numbers(&mut fields, &mut image)?;
    fields.finish()?;
    check(&image, h)?;
    apply(h, image, ram)
}

/// Values that the hart's own code relies on never to see.
fn check(image: &Image, h: &Hart) -> Result<(), StateError> {
    let known = [
        ("x", image.x[0] == 0),
        ("pc", image.pc & 1 == 0),
        ("fcsr", image.fcsr <= 0xff),
        ("mstatus", image.mstatus & mstatus::UXL_SXL == mstatus::UXL_SXL && image.mstatus & mstatus::SD == 0),
        ("mstatus", Privilege::from_bits((image.mstatus & mstatus::MPP) >> mstatus::MPP_SHIFT).is_some()),
        ("satp", mmu::levels(image.csr.satp, h.config.max_satp).is_some()),
        ("mip_software", image.interrupts.software & !trap::SUPERVISOR == 0),
        ("mip_wires", image.interrupts.wires & !trap::ALL == 0),
        ("mip_timer", image.interrupts.timer & !STIP == 0),
        ("mie", image.interrupts.mie & !trap::ALL == 0),
        ("mideleg", image.interrupts.mideleg & !trap::SUPERVISOR == 0),
        ("medeleg", image.csr.medeleg & !trap::DELEGABLE == 0),
    ];
    match known.into_iter().find(|(_, good)| !good) {
        Some((name, _)) => Err(StateError::Value(name)),
        None => Ok(()),
    }
}

fn apply(h: &mut Hart, image: Image, ram: &GuestRam) -> Result<Option<u64>, StateError> {
    let privilege = Privilege::from_bits(image.privilege).ok_or(StateError::Value("privilege"))?;
    let waiting = match image.waiting {
        0 => Waiting::No,
        1 => Waiting::Interrupt,
        2 => Waiting::Reservation,
        _ => return Err(StateError::Value("waiting")),
    };
    let reservation = match image.reservation.checked_sub(1) {
        Some(line) if line % LINE != 0 || !ram.contains(line, LINE) => {
            return Err(StateError::Value("reservation"));
        }
        other => other,
    };
    let cfg = image.pmpcfg.try_into().map_err(|_| StateError::Value("pmpcfg"))?;
    let addr = image.pmpaddr.try_into().map_err(|_| StateError::Value("pmpaddr"))?;
    if !h.triggers.restore(&image.triggers) {
        return Err(StateError::Value("triggers"));
    }
    h.pmp.restore(cfg, addr);
    let (x, f) = h.registers_mut();
    x[..32].copy_from_slice(&image.x);
    f[..32].copy_from_slice(&image.f);
    h.fcsr = image.fcsr as u32;
    h.mstatus = image.mstatus;
    h.pc = image.pc;
    h.privilege = privilege;
    h.csr = image.csr;
    h.interrupts = image.interrupts;
    h.counters = image.counters;
    h.waiting = waiting;
    Ok(reservation)
}

/// Saved fields, each to be taken exactly once.
struct Fields<'a> {
    left: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Fields<'a> {
    fn new(fields: &'a [(String, Vec<u8>)]) -> Result<Fields<'a>, StateError> {
        let left: Vec<(&str, &[u8])> =
            fields.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        for (index, (name, _)) in left.iter().enumerate() {
            if left[..index].iter().any(|(other, _)| other == name) {
                return Err(StateError::Duplicate((*name).to_owned()));
            }
        }
        Ok(Fields { left })
    }

    fn bytes(&mut self, name: &'static str) -> Result<&'a [u8], StateError> {
        let index =
            self.left.iter().position(|(other, _)| *other == name).ok_or(StateError::Missing(name))?;
        Ok(self.left.swap_remove(index).1)
    }

    fn words(&mut self, name: &'static str, count: usize) -> Result<Vec<u64>, StateError> {
        let (words, rest) = self.bytes(name)?.as_chunks::<8>();
        let exact = rest.is_empty() && words.len() == count;
        if exact {
            Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
        } else {
            Err(StateError::Value(name))
        }
    }

    fn number(&mut self, name: &'static str) -> Result<u64, StateError> {
        Ok(self.words(name, 1)?[0])
    }

    fn finish(self) -> Result<(), StateError> {
        match self.left.first() {
            Some((name, _)) => Err(StateError::Unknown((*name).to_owned())),
            None => Ok(()),
        }
    }
}
