use super::*;
use reprise_plugin_api::{Size, testkit::FakeHost};

const M0: u64 = 0;
const S0: u64 = 1;
const M1: u64 = 2;
const S1: u64 = 3;

fn host() -> FakeHost<Plic> {
    FakeHost::new(Config { sources: 95, harts: 2, max_priority: 7 })
}

fn priority(source: u64) -> u64 {
    4 * source
}

fn pending(word: u64) -> u64 {
    0x1000 + 4 * word
}

fn enable(context: u64, word: u64) -> u64 {
    0x2000 + 0x80 * context + 4 * word
}

fn threshold(context: u64) -> u64 {
    0x20_0000 + 0x1000 * context
}

fn claim(context: u64) -> u64 {
    threshold(context) + 4
}

/// Priority 1 for these sources, and enabled for these contexts.
fn ready(sources: &[u64], contexts: &[u64]) -> FakeHost<Plic> {
    let mut host = host();
    for source in sources {
        host.write32(priority(*source), 1);
        for context in contexts {
            let at = enable(*context, source / 32);
            let old = host.read32(at);
            host.write32(at, old | 1 << (source % 32));
        }
    }
    host
}

fn raise(host: &mut FakeHost<Plic>, source: u64) {
    host.set_input(&format!("irq.{source}"), true);
}

fn lower(host: &mut FakeHost<Plic>, source: u64) {
    host.set_input(&format!("irq.{source}"), false);
}

fn outputs(host: &FakeHost<Plic>) -> [bool; 4] {
    ["meip.0", "seip.0", "meip.1", "seip.1"].map(|pin| host.output(pin))
}

#[test]
fn an_interrupt_from_line_to_completion() {
    let mut host = ready(&[10], &[S0]);
    raise(&mut host, 10);
    assert_eq!(outputs(&host), [false, true, false, false]);
    assert_eq!(host.read32(pending(0)), 1 << 10);
    assert_eq!(host.read32(claim(S0)), 10);
    assert_eq!(outputs(&host), [false; 4]);
    assert_eq!(host.read32(pending(0)), 0, "claimed is no longer pending");
    assert_eq!(host.read32(claim(S0)), 0, "nothing else");
    lower(&mut host, 10);
    host.write32(claim(S0), 10);
    assert_eq!((host.read32(pending(0)), outputs(&host)), (0, [false; 4]));
}

#[test]
fn each_context_has_its_own_pin() {
    for (context, expected) in [M0, S0, M1, S1].into_iter().enumerate() {
        let mut host = ready(&[1], &[expected]);
        raise(&mut host, 1);
        let mut pins = [false; 4];
        pins[context] = true;
        assert_eq!(outputs(&host), pins);
    }
}

#[test]
fn a_line_that_stays_high_interrupts_again_after_completion() {
    let mut host = ready(&[3], &[M0]);
    raise(&mut host, 3);
    assert_eq!(host.read32(claim(M0)), 3);
    // A new edge while it is served makes no second request.
    lower(&mut host, 3);
    raise(&mut host, 3);
    assert_eq!((host.read32(pending(0)), host.read32(claim(M0))), (0, 0));
    host.write32(claim(M0), 3);
    assert_eq!(host.read32(pending(0)), 1 << 3);
    assert!(host.output("meip.0"));
}

#[test]
fn a_request_stays_pending_when_its_line_falls() {
    let mut host = ready(&[3], &[M0]);
    raise(&mut host, 3);
    lower(&mut host, 3);
    assert!(host.output("meip.0"));
    assert_eq!(host.read32(claim(M0)), 3);
    host.write32(claim(M0), 3);
    assert_eq!(host.read32(claim(M0)), 0, "one request, not two");
}

#[test]
fn completion_needs_the_source_enabled_for_that_context() {
    let mut host = ready(&[3], &[M0]);
    raise(&mut host, 3);
    assert_eq!(host.read32(claim(M0)), 3);
    host.write32(claim(S0), 3);
    assert_eq!(host.read32(pending(0)), 0, "ignored: not enabled for S0");
    for wrong in [0, 4, 96, 1023, u32::MAX] {
        host.write32(claim(M0), wrong);
    }
    assert_eq!(host.read32(pending(0)), 0, "ignored: another source");
    // Any context for which it is enabled may complete it.
    host.write32(enable(S0, 0), 1 << 3);
    host.write32(claim(S0), 3);
    assert_eq!(host.read32(pending(0)), 1 << 3);
}

#[test]
fn completing_what_was_not_claimed_changes_nothing() {
    let mut host = ready(&[3], &[M0]);
    raise(&mut host, 3);
    let before = host.save();
    host.write32(claim(M0), 3);
    assert_eq!(host.save(), before);
}

#[test]
fn the_highest_priority_comes_first_then_the_lowest_number() {
    let mut host = ready(&[1, 2, 40, 70], &[M0]);
    for (source, level) in [(1, 2), (2, 5), (40, 5), (70, 7)] {
        host.write32(priority(source), level);
        raise(&mut host, source);
    }
    let order: Vec<_> = (0..5).map(|_| host.read32(claim(M0))).collect();
    assert_eq!(order, [70, 2, 40, 1, 0]);
}

#[test]
fn priority_zero_never_interrupts() {
    let mut host = ready(&[5], &[M0]);
    host.write32(priority(5), 0);
    raise(&mut host, 5);
    assert_eq!((host.read32(pending(0)), host.read32(claim(M0))), (1 << 5, 0));
    assert!(!host.output("meip.0"));
    host.write32(priority(5), 1);
    assert!(host.output("meip.0"));
    host.write32(priority(5), 0);
    assert!(!host.output("meip.0"));
}

#[test]
fn the_threshold_masks_the_notification_but_not_the_claim() {
    let mut host = ready(&[5], &[M0, S0]);
    host.write32(priority(5), 3);
    host.write32(threshold(M0), 3);
    raise(&mut host, 5);
    assert_eq!(outputs(&host), [false, true, false, false]);
    host.write32(threshold(M0), 2);
    assert!(host.output("meip.0"));
    host.write32(threshold(M0), 7);
    assert!(!host.output("meip.0"));
    assert_eq!(host.read32(claim(M0)), 5);
}

#[test]
fn all_enabled_contexts_hear_of_it_and_the_first_claim_wins() {
    let mut host = ready(&[64], &[M0, S0, S1]);
    raise(&mut host, 64);
    assert_eq!(outputs(&host), [true, true, false, true]);
    assert_eq!(host.read32(claim(S1)), 64);
    assert_eq!(outputs(&host), [false; 4]);
    assert_eq!(host.read32(claim(M0)), 0);
}

#[test]
fn enabling_and_disabling_follow_at_once() {
    let mut host = ready(&[33], &[]);
    raise(&mut host, 33);
    assert_eq!(outputs(&host), [false; 4]);
    host.write32(enable(S0, 1), 1 << 1);
    assert!(host.output("seip.0"));
    host.write32(enable(S0, 1), 0);
    assert!(!host.output("seip.0"));
    assert_eq!(host.read32(claim(S0)), 0);
}

#[test]
fn registers_keep_only_the_bits_that_exist() {
    let mut host = host();
    let mut ones = |offset| {
        host.write32(offset, u32::MAX);
        host.read32(offset)
    };
    assert_eq!([ones(priority(1)), ones(priority(95)), ones(threshold(S1))], [7, 7, 7]);
    assert_eq!([ones(priority(0)), ones(priority(96))], [0, 0]);
    assert_eq!([ones(enable(M0, 0)), ones(enable(M0, 1)), ones(enable(M0, 2))], [!1, !0, !0]);
    assert_eq!([ones(enable(M0, 3)), ones(enable(4, 0)), ones(threshold(4)), ones(claim(4))], [0; 4]);
    assert_eq!([ones(pending(0)), ones(pending(3)), ones(0x20_0008), ones(0x1f_fffc)], [0; 4]);
}

#[test]
fn the_last_word_has_no_bits_beyond_the_last_source() {
    for (sources, last) in [(1, 2), (31, !1), (32, 1), (33, 3), (63, !0), (1023, !0)] {
        let mut host = FakeHost::<Plic>::new(Config { sources, harts: 1, max_priority: 7 });
        let word = u64::from(sources / 32);
        host.write32(enable(0, word), u32::MAX);
        assert_eq!(host.read32(enable(0, word)), last, "{sources} sources");
        let source = u64::from(sources);
        host.write32(priority(source), 1);
        raise(&mut host, source);
        assert_eq!(u64::from(host.read32(claim(0))), source);
    }
}

#[test]
fn source_zero_is_no_source() {
    let mut host = ready(&[1], &[M0]);
    raise(&mut host, 0);
    assert_eq!((host.read32(pending(0)), host.read32(claim(M0))), (0, 0));
}

#[test]
fn only_words_reach_it() {
    let mut host = host();
    assert_eq!(host.read(0, 4, Size::B8), Err(Fault));
    assert_eq!(host.read(0, 4, Size::B1), Err(Fault));
    assert_eq!(host.write(0, 4, Size::B2, 0), Err(Fault));
    assert_eq!(host.read(0, 0x60_0000, Size::B4), Err(Fault));
}

#[test]
fn the_hart_hears_only_of_changes() {
    let mut host = ready(&[1, 2], &[M0]);
    raise(&mut host, 1);
    raise(&mut host, 2);
    assert_eq!(host.read32(claim(M0)), 1);
    host.save_load();
    assert_eq!(host.read32(claim(M0)), 2);
    let levels: Vec<bool> = host.pin_log().into_iter().map(|(_, _, level)| level).collect();
    assert_eq!(levels, [true, false]);
}

#[test]
fn after_a_reset_all_is_zero() {
    let mut host = ready(&[3, 4], &[M0, S1]);
    host.write32(threshold(S1), 1);
    raise(&mut host, 3);
    raise(&mut host, 4);
    assert_eq!(host.read32(claim(M0)), 3);
    host.reset(Reset::Warm);
    assert_eq!(outputs(&host), [false; 4]);
    let registers = [priority(3), pending(0), enable(M0, 0), enable(S1, 0), threshold(S1)];
    assert_eq!(registers.map(|at| host.read32(at)), [0; 5]);
}

#[test]
fn a_line_counts_after_a_reset_if_its_device_still_drives_it() {
    let mut host = ready(&[3, 4, 5], &[M0]);
    for source in [3, 4, 5] {
        raise(&mut host, source);
    }
    assert_eq!(host.read32(claim(M0)), 3);
    host.reset(Reset::Warm);
    // The reset of its device lowers a line after ours; another comes back.
    lower(&mut host, 4);
    lower(&mut host, 5);
    raise(&mut host, 5);
    host.save_load();
    host.advance(0);
    assert_eq!(host.read32(pending(0)), 1 << 3 | 1 << 5);
    host.write32(priority(3), 1);
    host.write32(enable(S1, 0), 1 << 3);
    assert!(host.output("seip.1"));
    host.reset(Reset::Cold);
    lower(&mut host, 3);
    lower(&mut host, 5);
    host.advance(0);
    assert_eq!(host.read32(pending(0)), 0);
}

#[test]
fn the_state_is_checked() {
    let mut host = FakeHost::<Plic>::new(Config { sources: 95, harts: 1, max_priority: 7 });
    let other = |sources, harts, max_priority, offset| {
        let mut other = FakeHost::<Plic>::new(Config { sources, harts, max_priority });
        other.write32(offset, u32::MAX);
        other.save()
    };
    let load = |host: &mut FakeHost<Plic>, record: Vec<u8>| host.load(&record).unwrap_err();
    assert!(load(&mut host, other(64, 1, 7, 0)).contains("priority"), "another number of sources");
    assert!(load(&mut host, other(95, 2, 7, 0)).contains("contexts"), "another number of harts");
    let few = FakeHost::<Plic>::new(Config { sources: 94, harts: 1, max_priority: 7 }).save();
    assert!(load(&mut host, few).contains("priority"));
    let error = load(&mut host, other(95, 1, 15, priority(1)));
    assert!(error.contains("a priority or threshold that does not exist"), "{error}");
}

#[test]
fn a_state_with_sources_that_do_not_exist_is_refused() {
    let mut host = FakeHost::<Plic>::new(Config { sources: 3, harts: 1, max_priority: 7 });
    host.write32(priority(3), 1);
    host.write32(enable(M0, 0), 1 << 3);
    raise(&mut host, 3);
    let saved = host.save();
    let mut damaged = saved.clone();
    // Every bit set has source 3 only: move them all to source 31.
    let bit_set = [0, 0, 0, 0x80];
    let mut at = 0;
    while at + 4 <= damaged.len() {
        if damaged[at..at + 4] == [8, 0, 0, 0] {
            damaged[at..at + 4].copy_from_slice(&bit_set);
        }
        at += 1;
    }
    let error = host.load(&damaged).unwrap_err();
    assert!(error.contains("`lines` has a source that does not exist"), "{error}");
    host.load(&saved).unwrap();
}

#[test]
fn options_are_checked() {
    let create = |max_priority| Plic::create(Config { sources: 1, harts: 1, max_priority }).map(|_| ());
    for good in [1, 3, 7, 31, u32::MAX] {
        assert_eq!(create(good), Ok(()));
    }
    for bad in [2, 6, 8, 0xffff_fffe] {
        assert_eq!(create(bad).unwrap_err().path, "max_priority");
    }
}

#[test]
fn the_device_tree_lists_the_contexts_in_order() {
    let desc = Plic::describe(&Config { sources: 95, harts: 3, max_priority: 7 });
    let node = desc.fdt.unwrap();
    let names: Vec<String> = desc
        .outputs
        .iter()
        .flat_map(|pins| (0..pins.count.unwrap()).map(|index| format!("{}{index}", pins.name)))
        .collect();
    let order: Vec<_> = node.interrupts.iter().map(|pin| names[*pin as usize].as_str()).collect();
    assert_eq!(order, ["meip0", "seip0", "meip1", "seip1", "meip2", "seip2"]);
    assert_eq!(node.interrupt_controller, Some(1));
    assert!(node.props.contains(&("riscv,ndev".to_owned(), FdtValue::Cells(vec![95]))));
    // As `plugin describe` asks for it, before any board says how many harts there are.
    assert!(Plic::describe(&Config::default()).fdt.unwrap().interrupts.is_empty());
}

/// A model that recomputes everything each time, in the words of the specification.
struct Model {
    line: [bool; 8],
    ip: [bool; 8],
    busy: [bool; 8],
}

#[test]
fn it_agrees_with_the_specification_at_random() {
    let mut rng = reprise_plugin_api::testkit::Rng::new(7);
    let mut host = FakeHost::<Plic>::new(Config { sources: 7, harts: 1, max_priority: 3 });
    let mut model = Model { line: [false; 8], ip: [false; 8], busy: [false; 8] };
    let (mut priorities, mut enables, mut thresholds) = ([0; 8], [[false; 8]; 2], [0; 2]);
    for step in 0..20_000 {
        let source = 1 + rng.below(7) as usize;
        let context = rng.below(2) as usize;
        let value = rng.below(4) as u32;
        if rng.below(8) == 0 {
            host.save_load();
        }
        match rng.below(6) {
            0 => {
                model.line[source] = value & 1 != 0;
                host.set_input(&format!("irq.{source}"), model.line[source]);
            }
            1 => {
                priorities[source] = value;
                host.write32(priority(source as u64), value);
            }
            2 => {
                enables[context][source] = value != 0;
                let bits = (0..8).fold(0, |bits, id| bits | u32::from(enables[context][id]) << id);
                host.write32(enable(context as u64, 0), bits);
            }
            3 => {
                thresholds[context] = value;
                host.write32(threshold(context as u64), value);
            }
            4 => {
                let best = (1..8)
                    .filter(|id| model.ip[*id] && enables[context][*id] && priorities[*id] > 0)
                    .min_by_key(|id| (std::cmp::Reverse(priorities[*id]), *id));
                assert_eq!(host.read32(claim(context as u64)) as usize, best.unwrap_or(0), "step {step}");
                if let Some(id) = best {
                    model.ip[id] = false;
                }
            }
            _ => {
                if enables[context][source] && model.busy[source] && !model.ip[source] {
                    model.busy[source] = false;
                }
                host.write32(claim(context as u64), source as u32);
            }
        }
        for id in 1..8 {
            if model.line[id] && !model.busy[id] {
                (model.busy[id], model.ip[id]) = (true, true);
            }
        }
        let pins = [0, 1].map(|context: usize| {
            (1..8).any(|id| model.ip[id] && enables[context][id] && priorities[id] > thresholds[context])
        });
        assert_eq!(["meip.0", "seip.0"].map(|pin| host.output(pin)), pins, "step {step}");
    }
}

#[test]
fn it_survives_the_fuzzer() {
    for (seed, sources, harts) in [(1, 95, 2), (2, 3, 1), (3, 1023, 1)] {
        let mut host = FakeHost::<Plic>::new(Config { sources, harts, max_priority: 7 });
        host.fuzz(seed, 2000);
        host.fuzz_load(seed, 200);
    }
}
