// A matrix times a vector, plus a number, and the largest element of that:
//   bespoke runtime run xla:cpu affine.mlir --input "[[1, 2], [3, 4]]" --input "[5, 6]" --input 0.5
module @affine {
  func.func @main(%a: tensor<2x2xf32>, %x: tensor<2xf32>, %b: tensor<f32>) -> (tensor<2xf32>, tensor<f32>) {
    %ax = stablehlo.dot_general %a, %x, contracting_dims = [1] x [0] : (tensor<2x2xf32>, tensor<2xf32>) -> tensor<2xf32>
    %bs = stablehlo.broadcast_in_dim %b, dims = [] : (tensor<f32>) -> tensor<2xf32>
    %y = stablehlo.add %ax, %bs : tensor<2xf32>
    %least = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %largest = stablehlo.reduce(%y init: %least) applies stablehlo.maximum across dimensions = [0] : (tensor<2xf32>, tensor<f32>) -> tensor<f32>
    return %y, %largest : tensor<2xf32>, tensor<f32>
  }
}
