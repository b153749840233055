//! A new configuration without a stop. A bad one is refused, and the old one stays in force.

use std::sync::Arc;

use super::Daemon;
use super::build::{Error, engine_settings, world};
use super::context::World;
use super::pulse::Pulse;
use super::supervisor::warn_if_refused;
use crate::config::Config;
use crate::engine::event::Event;
use crate::sdnotify;

impl Daemon {
    /// Reads the configuration again and applies it. Acts in flight end under the old one.
    pub(super) fn reload(&mut self) {
        warn_if_refused(sdnotify::reloading());
        let refusal = self.read_again().err();
        if let Some(reason) = &refusal {
            tracing::error!("the configuration is refused, the old one stays: {reason}");
        }
        self.supervisor.headline.is_refused = refusal.is_some();
        warn_if_refused(sdnotify::ready(match refusal {
            Some(_) => "the configuration is refused, the old one stays",
            None => "the configuration was read again",
        }));
    }

    fn read_again(&mut self) -> Result<(), String> {
        let config = (self.setup.reader)().map_err(|problems| problems.to_string())?;
        if config.state_directory != self.setup.config.state_directory {
            return Err("[state] directory cannot change without a new start".into());
        }
        if config.control_socket != self.setup.config.control_socket {
            return Err("[control] socket cannot change without a new start".into());
        }
        self.world = Arc::new(self.world_of(&config).map_err(|error| error.to_string())?);
        self.tell(Event::Reconfigured(engine_settings(&config)));
        // A halted destination may have got another credential.
        let targets = config.destinations.iter().map(|target| target.name.clone());
        targets.for_each(|destination| self.tell(Event::CredentialChanged { destination }));
        self.inputs.watch(&self.world);
        self.supervisor.pulse = Pulse::new(&config.notify.heartbeats, self.clock.now().monotonic);
        self.inputs.control.configure(&config, &self.world);
        self.setup.config = config;
        self.note_configured();
        self.persistence.care.configure(&self.setup.config.care, self.clock.now().monotonic);
        self.rates.configure(&self.setup.config.transfer);
        self.follow_rates();
        self.inputs.web.serve(self.setup.config.web.clone(), &self.world);
        tracing::info!("the configuration was read again");
        Ok(())
    }

    fn world_of(&self, config: &Config) -> Result<World, Error> {
        let (events, bandwidth) = (self.world.events.clone(), Arc::clone(&self.world.bandwidth));
        let world = world(config, &self.engine.view().roots(), &self.clock, events, bandwidth)?;
        for (name, source) in &world.sources {
            let before = self.world.sources.get(name);
            if let Some(before) = before.filter(|before| before.root == source.root) {
                source.root.set_renamed(before.root.renamed());
            }
        }
        for target in &config.destinations {
            let (old, address) = (&self.setup.config.destinations, target.address());
            let same = old.iter().filter(|old| old.address() == address);
            let known = same.filter_map(|old| self.world.destinations.get(&old.name));
            if let Some(destination) = world.destinations.get(&target.name) {
                destination.know(known.flat_map(|old| old.known()));
            }
        }
        Ok(world)
    }
}
