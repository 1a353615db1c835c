"""Results as JSON: what the store keeps of a run that has not ended, and what the parent keeps of a measured round."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """JSON with NaN and infinities: an error that is no number never passes, and has to stay one."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    def encoded(self) -> bytes:
        """As the store keeps it."""
        return self.model_dump_json().encode()
