"""MiniGoogLeNet in Keras, as the reference post builds it: what ours is compared with, and timed against."""


def mini_googlenet():
    """Return the reference post's network in Keras, up to the logits; the post's softmax is in our loss."""
    import keras
    from keras import layers

    def convolution(x, filters, size, stride=1, padding="same"):
        x = layers.Conv2D(filters, size, strides=stride, padding=padding)(x)
        return layers.Activation("relu")(layers.BatchNormalization(axis=-1)(x))

    def inception(x, one, three):
        return layers.concatenate([convolution(x, one, 1), convolution(x, three, 3)], axis=-1)

    def downsample(x, filters):
        return layers.concatenate(
            [convolution(x, filters, 3, 2, "valid"), layers.MaxPooling2D((3, 3), strides=(2, 2))(x)], axis=-1
        )

    image = layers.Input((32, 32, 1))
    x = convolution(image, 96, 3)
    x = downsample(inception(inception(x, 32, 32), 32, 48), 80)
    for filters in ((112, 48), (96, 64), (80, 80), (48, 96)):
        x = inception(x, *filters)
    x = downsample(x, 96)
    x = inception(inception(x, 176, 160), 176, 160)
    x = layers.Dropout(0.5)(layers.Flatten()(layers.AveragePooling2D((7, 7))(x)))
    return keras.Model(image, layers.Dense(10)(x))
