//! What `doctor` says of hardware and runtimes: what was found, what is missing, what would be downloaded and how large it is.

use bespoke_runtimes::State;

use super::{detect, usable};
use crate::{
    cmd::doctor::report::{Report, Verdict},
    output::bytes,
    setup::Setup,
};

pub(crate) fn check(report: &mut Report, setup: &Setup) {
    report.group("Hardware and runtimes");
    let hardware = detect();
    match &hardware.nvidia {
        Ok(driver) => {
            let (major, minor) = driver.cuda_version;
            let version = driver.driver_version.as_ref().map_or(String::new(), |version| format!(" {version}"));
            report.ok("NVIDIA driver", format!("{}, for CUDA up to {major}.{minor}", format!("driver{version}").trim()));
            for device in &driver.devices {
                let (major, minor) = device.capability;
                let free = device.memory_free.map_or(String::new(), |free| format!(", {} free", bytes(free)));
                let memory = bytes(device.memory_total);
                report.ok("NVIDIA device", format!("{}: compute capability {major}.{minor}, {memory}{free}", device.name));
            }
        }
        Err(missing) => report.skip("NVIDIA driver", missing.to_string()),
    }
    match &hardware.tpu {
        Ok(tpu) => report.ok("TPU", format!("{} device files", tpu.devices.len())),
        Err(missing) => report.skip("TPU", missing.to_string()),
    }
    let usable = usable(&setup.host);
    let wanted = hardware.wanted(usable.iter().copied());
    let auto = setup.config.plugin_defaults().is_ok_and(|defaults| defaults.auto_install);
    for row in setup.packs.packs.rows() {
        let spec = row.spec;
        let version = row.version.clone().unwrap_or_default();
        let install = format!("bespoke plugin install {spec}");
        match &row.state {
            State::Installed | State::Bundled => {
                let how = if row.state == State::Bundled { "bundled with this program" } else { "installed" };
                let place = row.path.as_ref().map(|path| format!(", in {}", path.display())).unwrap_or_default();
                report.ok("runtime", format!("{spec} {version}: {how}{place}"));
            }
            State::Broken(why) => report.add("runtime", Verdict::Problem, format!("{spec} {version} is broken: {why}"), Some(install)),
            State::Available if wanted.iter().any(|wanted| wanted.spec == spec) => {
                // As it would be installed: for this driver, without what is here already.
                let set = wanted.iter().find(|wanted| wanted.spec == spec).and_then(|wanted| wanted.set);
                let what = match setup.packs.packs.plan(spec, set) {
                    Ok(plan) => {
                        format!("{spec} {} is missing, and there is hardware for it: {} to download", plan.version, bytes(plan.download))
                    }
                    Err(error) => format!("{spec} is missing, and there is hardware for it: {error}"),
                };
                let when = if auto { "; it comes by itself when something serves" } else { "" };
                report.add("runtime", Verdict::Warning, format!("{what}{when}"), Some(install));
            }
            State::Available if usable.contains(&spec) => {
                let size = row.download.map(bytes).unwrap_or_default();
                report.skip("runtime", format!("{spec} {version}: not installed, {size} to download; nothing here needs it"));
            }
            _ => {}
        }
    }
}
