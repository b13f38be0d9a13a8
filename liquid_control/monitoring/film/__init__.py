"""Films of episodes, and a live viewer."""

from liquid_control.monitoring.film.encoding import GIF_RATE, to_gif, to_mp4
from liquid_control.monitoring.film.rendering import FILM_RATE, Picture, frames, replay
from liquid_control.monitoring.film.viewer import watch

__all__ = ["FILM_RATE", "GIF_RATE", "Picture", "frames", "replay", "to_gif", "to_mp4", "watch"]
