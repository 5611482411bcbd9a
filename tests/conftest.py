"""What has to be done before any test."""

from standin_device import register

register()
