//! `reprise demo`: our own guest on the embedded `virt`, with a scratch disk.

use crate::{
    args::{DemoArgs, RunArgs},
    board,
    failure::Failure,
    io::grouped,
    plugins::Plugins,
    run,
    setup::{self, BootFiles},
};

/// `tests/guests/demo`, built; a test there checks that the source still builds to these bytes.
const GUEST: &[u8] = include_bytes!("../assets/demo.elf");

/// Run the demonstration. Returns the guest's exit code: the number of its checks that failed.
pub(crate) fn demo(args: &DemoArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let run_args = RunArgs {
        summary: args.summary.clone(),
        engine: "interp".into(),
        rtc: "host".into(),
        scratch_disk: true,
        ..RunArgs::default()
    };
    let board = board::load(&run_args.machine, catalog)?;
    let plugins: Vec<&str> = setup::plugin_names(&board).into_iter().collect();
    run::say(&introduction(&board.machine.name, board.devices.len(), &plugins));
    let files = BootFiles::embedded("the embedded demo guest", GUEST);
    let parts = run::Parts::gather(&run_args, catalog, board, files, crate::disk::HostDisk::open)?;
    let gate = reprise_machine::Gate::live(parts.seed);
    let ended = parts.connect(&run_args, gate, None)?.finish(None)?;
    let seconds = ended.host_time.as_secs_f64();
    run::say(&format!(
        "{}\nreprise: the guest ended with code {}: {} instructions in {:.3} s of virtual time\n\
         reprise: and {seconds:.2} s of host time\n\
         reprise: to boot Linux: reprise run --kernel Image --initrd initramfs.cpio --append console=ttyS0\n",
        ended.words,
        ended.code,
        grouped(ended.status.icount),
        ended.status.vtime_ns as f64 / 1e9,
    ));
    Ok(ended.code)
}

fn introduction(machine: &str, devices: usize, plugins: &[&str]) -> String {
    format!(
        "reprise: running our own guest on the embedded board `{machine}`: {devices} devices, each a plugin that was\n\
         reprise: loaded just now ({}).\n\
         reprise: It reads the device tree, tries what it finds, uses a scratch disk, and powers off.\n\
         reprise: Recording the run and replaying it is not in this version yet.\n\n",
        plugins.join(", ")
    )
}
