#!/bin/sh
echo "run from the image"
